"""Transactions over all groups: two-phase commit on keys, recovery by anybody, and the saga."""

from month5_kvstore.transactions.intents import Change, Intent
from month5_kvstore.transactions.kv_transactions import (
    Checkpoint,
    KvTransactions,
    TransactionConflict,
    Work,
)
from month5_kvstore.transactions.places import RESERVED
from month5_kvstore.transactions.postings_saga import Post, Posting, PostingSagas
from month5_kvstore.transactions.workspace import KEYS_MAX

__all__ = [
    "KEYS_MAX",
    "RESERVED",
    "Change",
    "Checkpoint",
    "Intent",
    "KvTransactions",
    "Post",
    "Posting",
    "PostingSagas",
    "TransactionConflict",
    "Work",
]
