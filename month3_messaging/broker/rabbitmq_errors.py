"""What aio-pika raises, in the house's errors."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import aiormq
from aio_pika import exceptions

from scalelab.errors import Conflict, NotFound, OutcomeUnknown, ScalelabError, Unavailable

GONE = (OSError, TimeoutError, exceptions.AMQPError, RuntimeError)
"""What closing something may raise whose other end is gone."""


@contextmanager
def map_errors() -> Generator[None]:
    """Translate the client's errors that the block raises.

    A message that came back or was refused is NotFound or Unavailable: it is not there. A
    connection that ended under a question is OutcomeUnknown where the question had been sent.
    """
    try:
        yield
    except exceptions.PublishError as error:
        raise NotFound(f"no queue takes it: {error}", code="unroutable") from error
    except exceptions.DeliveryError as error:
        raise Unavailable(f"RabbitMQ refused: {error}", code="rabbitmq_refused") from error
    except aiormq.exceptions.ChannelNotFoundEntity as error:
        raise NotFound(f"RabbitMQ: {error}", code="unroutable") from error
    except aiormq.exceptions.ChannelPreconditionFailed as error:
        raise Conflict(f"RabbitMQ: {error}", code="topic_differs") from error
    except (exceptions.ChannelInvalidStateError, exceptions.ChannelClosed) as error:
        raise OutcomeUnknown(f"RabbitMQ closed the channel: {error!r}") from error
    except (exceptions.AMQPConnectionError, ConnectionError, TimeoutError) as error:
        raise Unavailable(f"RabbitMQ: {error!r}", code="rabbitmq_unavailable") from error
    except exceptions.AMQPError as error:
        raise ScalelabError(f"RabbitMQ: {error!r}", code="rabbitmq_error") from error
