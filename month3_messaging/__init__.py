"""Month 3: order processing that is effectively once."""
