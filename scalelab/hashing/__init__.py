"""From keys to places: slots."""

from scalelab.hashing.slots import slot_for_key

__all__ = ["slot_for_key"]
