"""Month 5: a replicated key-value store."""
