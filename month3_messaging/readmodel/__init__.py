"""The read side of the orders: a view folded from the log, rebuilt beside itself, then swapped.

`keep_projecting` folds; `begin_rebuild` asks for a rebuild; `find`, `list_of_user` and
`count_by_status` read. `DDL` goes into the migrations of the service that keeps the view.
"""

from month3_messaging.readmodel.generation import Generation, Place, State
from month3_messaging.readmodel.generations_postgres import DDL, VIEW, look
from month3_messaging.readmodel.order_view import OrderView, Placing, fold
from month3_messaging.readmodel.projecting import (
    Projecting,
    begin_rebuild,
    drop_retired,
    fold_records,
    keep_projecting,
    project,
    try_swap,
)
from month3_messaging.readmodel.reading import count_by_status, find, list_of_user

__all__ = [
    "DDL",
    "VIEW",
    "Generation",
    "OrderView",
    "Place",
    "Placing",
    "Projecting",
    "State",
    "begin_rebuild",
    "count_by_status",
    "drop_retired",
    "find",
    "fold",
    "fold_records",
    "keep_projecting",
    "list_of_user",
    "look",
    "project",
    "try_swap",
]
