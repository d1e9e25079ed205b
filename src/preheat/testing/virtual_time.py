"""Virtual time: when no task is ready to run, the clock jumps to the next timer at once.

Both backends behave alike. A seed decides the order of tasks that are ready at the same time. If nothing can happen
any more, a :class:`DeadlockError` lists the waiting tasks and their places.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio

from ..errors import MissingExtraError
from . import trio_time
from .asyncio_time import VirtualTimeLoop
from .deadlock import DeadlockError, Watch
from .tasks import Trace

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

    On asyncio this is a :class:`VirtualTimeLoop`, on trio a :class:`trio.testing.MockClock`. Work in threads and in
    other processes takes no virtual time, and timers do not wait for it.

    Args:
        backend: `"asyncio"` or `"trio"`.
        function: the async function.
        args: its arguments.
        seed: shuffles the order of tasks that are ready at the same time; the same seed gives the same order. None
            leaves it to the backend: first come, first served on asyncio, any on trio.
        trace: a list to which each step of a task appends an entry `(seconds, name of the task)`.

    Returns:
        The value that the function returns.

    Raises:
        DeadlockError: if nothing can happen any more; it lists the waiting tasks and their places. The function is
            cancelled first, so that it can clean up.
        MissingExtraError: on trio, if it is not installed.
        RuntimeError: if `seed` is given and this version of trio does not take a seed.
    """
    watch = Watch()
    options = _options(backend, seed, trace, watch)
    return anyio.run(watch.over(function), *args, backend=backend, backend_options=options)
