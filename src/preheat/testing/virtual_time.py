"""A clock that jumps: when nothing is ready to run, the time is at once what the next timer waits for.

Both backends behave alike here. The time is virtual; a seed decides in which order tasks run that are ready at the same
time; and where nothing can ever happen again, a :class:`DeadlockError` says who waits where.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from ..errors import MissingExtraError
from . import trio_time
from .asyncio_time import VirtualTimeLoop
from .deadlock import DeadlockError, Watch
from .waiting import Trace

__all__ = ("DeadlockError", "Trace", "VirtualTimeLoop", "backend_options", "run")

T = TypeVar("T")


def _options(backend: str, seed: int | None, trace: Trace | None, watch: Watch) -> dict[str, Any]:
    if backend == "trio":
        try:
            import trio.testing
        except ModuleNotFoundError as error:
            raise MissingExtraError("virtual time on trio", "testing") from error
        clock = trio.testing.MockClock(autojump_threshold=0)
        return {"clock": clock, "instruments": [trio_time.instrument(clock, seed, trace, watch)]}
    return {"loop_factory": lambda: VirtualTimeLoop(seed, trace, watch=watch)}


def backend_options(backend: str, *, seed: int | None = None, trace: Trace | None = None) -> dict[str, Any]:
    """anyio's `backend_options` for virtual time on `backend`, for example in the fixture `anyio_backend`.

    Args:
        backend: `"asyncio"` or `"trio"`.
        seed: as for :func:`run`.
        trace: as for :func:`run`.
    """
    return _options(backend, seed, trace, Watch())


def run(
    backend: str,
    function: Callable[..., Awaitable[T]],
    *args: Any,
    seed: int | None = None,
    trace: Trace | None = None,
) -> T:
    """Run an async function on virtual time.

    On asyncio that is a :class:`VirtualTimeLoop`, on trio :class:`trio.testing.MockClock`. What worker threads and
    other processes do takes no virtual time, and timers do not wait for them.

    Args:
        backend: `"asyncio"` or `"trio"`.
        function: the async function.
        args: its arguments.
        seed: shuffles the order of tasks that are ready at the same time; the same seed gives the same order. None
            leaves it to the backend: first come, first served on asyncio, any on trio.
        trace: a list that is given an entry `(seconds, name of the task)` for each step of a task.

    Returns:
        What it returns.

    Raises:
        DeadlockError: if nothing can happen any more; it lists the tasks that wait, and where. The function is
            cancelled first, so that it can clean up.
        MissingExtraError: on trio, if it is not installed.
        RuntimeError: if `seed` is given and this version of trio takes none.
    """
    watch = Watch()
    options = _options(backend, seed, trace, watch)
    return anyio.run(watch.over(function), *args, backend=backend, backend_options=options)
