"""Escalation: durable cases that people decide, and the notices that tell them."""
