"""The notices that a server sends while it runs a statement."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from .protocol import SQLConnection


@contextmanager
def hearing_notices(connection: SQLConnection, tell: Callable[[str], object]) -> Generator[None]:
    """Call `tell` with the text of each notice meanwhile. A driver that passes none on is left as it is.

    `tell` is called in the event loop of the driver, which on trio runs in the same thread; it must not block.
    """
    listened: Any = connection
    if not hasattr(listened, "add_log_listener"):
        yield
        return

    def listener(_connection: Any, message: Any) -> None:
        tell(str(message.message))

    listened.add_log_listener(listener)
    try:
        yield
    finally:
        listened.remove_log_listener(listener)
