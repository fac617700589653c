"""What a handler returns.

  a message      the answer is known
  a future       it will be; nobody has to be woken for it meanwhile
  a coroutine    it takes reading or waiting: the connection runs it
  None           there is no answer (Produce with acks = 0)
`Sent` carries with the message what is to be done once its bytes have left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeAlias

from ...core.kafka.schema import Message


class Sent(NamedTuple):
    message: Message
    done: Callable[[], None]


Answer: TypeAlias = (
    Message | asyncio.Future[Any] | Coroutine[Any, Any, Message | Sent | None] | None
)
