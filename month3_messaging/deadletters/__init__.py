"""Dead letters of a consumer group: list them, replay them."""

from month3_messaging.deadletters.replay import DeadLetter, list_letters, replay

__all__ = ["DeadLetter", "list_letters", "replay"]
