"""The month's experiments: one file each, found by its slug."""
