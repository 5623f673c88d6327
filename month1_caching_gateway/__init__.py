"""Month 1: an API gateway, its caches and its limits."""
