"""From keys to places: slots, ring, rendezvous, jump; and from keys to "surely not there"."""

from scalelab.hashing.bloom import BloomFilter, Sizing, size_for
from scalelab.hashing.jump import jump, jump_for_key
from scalelab.hashing.member import Member
from scalelab.hashing.rendezvous import Rendezvous
from scalelab.hashing.ring import Ring
from scalelab.hashing.slots import SLOT_SETTING, slot_for_key

__all__ = [
    "SLOT_SETTING",
    "BloomFilter",
    "Member",
    "Rendezvous",
    "Ring",
    "Sizing",
    "jump",
    "jump_for_key",
    "size_for",
    "slot_for_key",
]
