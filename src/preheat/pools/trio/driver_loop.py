"""The asyncio loop on top of trio in which a driver lives.

The loop runs in a system task. So nothing that ends the user's tasks ends it in the middle of its work: neither a
cancellation, nor Ctrl-C, which trio raises in the user's main task or wherever the program is at that moment.
A driver does not survive a `KeyboardInterrupt` that is raised inside its callbacks.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from functools import partial
from typing import Any, TypeVar

import trio

from ...errors import describe, without_secrets
from .bridge import WakingFuture
from .timers import Timers

_is_ours = "trio_asyncio" not in sys.modules
_new_event_loop = asyncio.new_event_loop

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # it names a class that asyncio is about to drop
    import trio_asyncio

if _is_ours:
    # The import makes `asyncio.run` use an event loop on top of trio, everywhere in the process. This undoes it,
    # since a program may run asyncio after it has used a pool on trio. If the program itself has imported trio-asyncio
    # before, nothing changes for it.
    asyncio.new_event_loop = asyncio.events.new_event_loop = _new_event_loop

__all__ = ("DriverLoop", "trio_asyncio")

logger: logging.Logger = logging.getLogger("preheat")

T = TypeVar("T")


class DriverLoop:
    """An asyncio loop that is open until its owner closes it.

    What the driver only reports to its loop, such as a transaction that somebody left open, is logged and ends nothing.
    """

    def __init__(self) -> None:
        self.is_open: bool = False
        """Whether coroutines may be run; false from the moment that the owner closes it."""
        self._loop: Any = None
        self._error: BaseException | None = None
        self._opened, self._leave, self._left = trio.Event(), trio.Event(), trio.Event()

    async def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in a task of asyncio's.

        Raises:
            asyncio.CancelledError: if the loop closes meanwhile.

        Cancellation: the coroutine sees one `CancelledError`; trio's goes on when it has ended with that.
        """
        result: T = await self._loop.run_aio_coroutine(coroutine)
        return result

    async def open(self) -> None:
        """Open the loop. Close it afterwards even if this raises."""
        self._outer = trio_asyncio.current_loop.get()
        trio.lowlevel.spawn_system_task(self._live, name="preheat: the driver's asyncio loop")
        await _certain(self._opened)
        if self._error is not None:
            raise self._error
        trio_asyncio.current_loop.set(self._loop)  # for those who have asyncio-flavored code of their own

    async def close(self) -> None:
        """Cancel the loop's tasks, and close it when they have ended."""
        if trio_asyncio.current_loop.get() is self._loop:
            trio_asyncio.current_loop.set(self._outer)
        self.is_open = False
        self._leave.set()
        await _certain(self._left)
        if self._error is not None and not isinstance(self._error, Exception):
            raise self._error
        if self._error is not None:
            logger.warning("the asyncio loop of a driver has failed: %s", describe(self._error))

    async def _live(self) -> None:
        try:
            async with trio_asyncio.open_loop() as self._loop:
                self._loop.set_exception_handler(_report)
                self._loop.create_future = partial(WakingFuture, loop=self._loop)
                self._loop.set_default_executor(_Threads())
                self._loop.call_later = Timers(self._loop).call_later
                await _protect(self._loop)
                self.is_open = True
                self._opened.set()
                await self._leave.wait()
        except trio.Cancelled:
            raise  # trio itself ends, and the owner has not closed it
        except BaseException as error:
            self._error = error
        finally:
            self.is_open = False
            self._opened.set()
            self._left.set()


async def _certain(event: trio.Event) -> None:
    """Wait for what happens soon. A cancellation and Ctrl-C wait as well."""
    interrupt: KeyboardInterrupt | None = None
    with trio.CancelScope(shield=True):
        while not event.is_set():
            try:
                await event.wait()
            except KeyboardInterrupt as error:
                interrupt = error
    if interrupt is not None:
        raise interrupt


async def _protect(loop: Any) -> None:
    """Let Ctrl-C wait until no task of the loop is running.

    trio asks the functions on the stack, from the innermost, whether they are protected. The tasks of this loop alone
    get one that is: trio-asyncio runs the user's code as well, in the user's own loops.
    """
    step = loop._main_loop_one
    protected = trio.Event()

    @trio.lowlevel.enable_ki_protection
    async def steps(**options: Any) -> None:
        protected.set()
        while True:  # never back to the caller, which is not protected, before an exception ends the loop
            try:
                await step(**options)
            except SystemExit as error:
                if type(error) is not SystemExit:
                    raise  # trio-asyncio's own, which stops the loop
            except KeyboardInterrupt:
                pass  # the task that raised it has it as its result, and so has the task that waits for it

    loop._main_loop_one = steps
    loop._nursery = _ProtectedTasks(loop._nursery)
    loop.call_soon(lambda: None)  # ends the step that is under way
    await protected.wait()


class _ProtectedTasks:
    """A nursery in which Ctrl-C interrupts no task."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery

    def start_soon(self, function: Callable[..., Awaitable[Any]], *args: Any, name: object = None) -> None:
        """As a nursery's."""
        self._nursery.start_soon(_protected, function, args, name=name or function)


@trio.lowlevel.enable_ki_protection
async def _protected(function: Callable[..., Awaitable[Any]], args: tuple[Any, ...]) -> None:
    await function(*args)


class _Threads(trio_asyncio.TrioExecutor):  # type: ignore[misc]
    """Threads that are left alone when they are not waited for any more, such as one that waits for a name server."""

    async def submit(self, func: Callable[..., Any], *args: Any) -> Any:
        """Run a function in a thread."""
        return await trio.to_thread.run_sync(func, *args, abandon_on_cancel=True)


def _report(_loop: Any, context: Mapping[str, Any]) -> None:
    """What asyncio would log."""
    error = context.get("exception")
    words = without_secrets(str(context.get("message", "")))
    logger.warning("asyncpg reports: %s%s", words, f": {describe(error)}" if error is not None else "")
