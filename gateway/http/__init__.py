"""Bytes in, bytes out: endpoints, authentication and limits. Pure ASGI, so that no layer copies a body."""
