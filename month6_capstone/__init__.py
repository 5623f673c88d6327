"""Month 6: the shop that composes the months."""
