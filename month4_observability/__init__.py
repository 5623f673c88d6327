"""Month 4: seeing a system, and breaking it on purpose."""
