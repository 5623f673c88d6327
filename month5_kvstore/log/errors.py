"""What can go wrong with the log, each with a stable code."""

from __future__ import annotations

from scalelab.errors import Conflict, CorruptData, NotFound, Overloaded, ScalelabError, Unavailable


class LogStopped(ScalelabError):
    """The disk failed in a way that leaves unknown what is on it. Nothing is written any more.

    A second fsync may report success although the first one lost pages, so there is no second one:
    the process ends, and the next opening reads what is really there.
    """

    code = "log_stopped"


class DiskFull(Unavailable):
    """No space. Nothing of the refused batch is in the log; it goes on when there is space."""

    code = "disk_full"


class LogQueueFull(Overloaded):
    """More waits to be written than the log may hold in memory. Nothing was taken."""

    code = "log_queue_full"


class LogInUse(Conflict):
    """Another process has the folder."""

    code = "log_in_use"


class WrongIdentity(Conflict):
    """The folder, or a peer, belongs to another cluster or another node than was said."""

    code = "wrong_identity"


class NotInitialised(NotFound):
    """The folder holds no log: it is new, or it was wiped. It must be made on purpose."""

    code = "log_not_initialised"


class DamagedLog(CorruptData):
    """Records that were acknowledged cannot be read. Nothing is cut: a person must look."""

    code = "damaged_log"
