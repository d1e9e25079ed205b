"""Where a pool may be used: in the event loop and the process that it was opened in.

Its sockets are read by that event loop. In another one a call would wait for an answer that is read elsewhere; in a
forked child two processes would read each other's rows from one socket.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from weakref import WeakSet

from ..errors import ConnectError, PreheatError
from .lifetime import is_over

__all__ = ("Home",)

_homes: WeakSet[Home] = WeakSet()


class Home:
    """Remembers where it was made.

    Args:
        current: returns the running event loop, or what stands for it; raises RuntimeError if there is none.
        name: what messages call the pool.
        after_fork: is called in a forked child, to keep it from closing what is the parent's.
    """

    def __init__(self, current: Callable[[], object], name: str, after_fork: Callable[[], None]) -> None:
        self._current = current
        self._place: object = current()
        self._process = os.getpid()
        self._name = name
        self._after_fork = after_fork
        _homes.add(self)

    def check(self) -> None:
        """Raise :class:`PreheatError` unless this is the event loop and the process that it was made in."""
        try:
            here: object = self._current()
        except RuntimeError:
            here = None
        if here is not self._place:
            self._refuse(here)

    def leave(self) -> None:
        """Be no different from a place that is left by a fork."""
        self._place = _FORKED
        self._after_fork()

    def _refuse(self, here: object) -> None:
        if self._place is _FORKED:
            raise PreheatError(
                f"the pool {self._name} belongs to process {self._process}, and this is its forked child "
                f"{os.getpid()}, which must not use its connections; open another pool in the child"
            )
        if is_over(self._place):
            raise ConnectError(
                self._name,
                "the pool is closed, because the event loop that it was opened in has ended",
                "open another one in this event loop",
            )
        raise PreheatError(
            f"the pool {self._name} belongs to another event loop: it was opened in {self._place!r} and is used in "
            f"{here!r}; use it in the event loop that it was opened in, or open another pool in this one"
        )


class _Forked:
    """In place of an event loop, in a forked child."""


_FORKED = _Forked()


def _leave_all() -> None:
    for home in list(_homes):
        home.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)
