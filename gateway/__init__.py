"""The governance gateway: policy decision point and policy enforcement point in front of any agent."""
