"""A TCP server on loopback, in a thread with an event loop of its own.

It serves clients on any backend, and none at all: whoever enters it need not be asynchronous.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self


class TCPServer:
    """Listens from entering to leaving, and gives each connection to `handle`.

    At most about 500 connections at once: `select` sees only the first 1024 files of a process.
    """

    def __init__(self) -> None:
        self.port: int = 0
        """Where to connect to on 127.0.0.1, once entered."""
        self.open: int = 0
        """How many accepted connections are being handled now; 0 once the last one's bytes have all passed."""
        self._listener: socket.socket
        self._is_listening = True
        self._woken: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._serving: asyncio.Task[None]
        self._thread: threading.Thread

    async def handle(self, connection: socket.socket) -> None:
        """Serve one client to its end.

        An `OSError` ends this connection alone. The socket is closed afterwards, if a transport has not done so.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setblocking(False)
        self.port = self._listener.getsockname()[1]
        # epoll rounds the time of a timer up to whole milliseconds; select has microseconds.
        self._loop = asyncio.SelectorEventLoop(selectors.SelectSelector())
        self._serving = self._loop.create_task(self._serve())
        self._thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join()

    def _call(self, function: Callable[[], object]) -> None:
        """Run a function in the thread of the server, and wait for its end."""
        done: Future[None] = Future()

        def call() -> None:
            try:
                function()
            except BaseException as error:
                done.set_exception(error)
            else:
                done.set_result(None)

        self._loop.call_soon_threadsafe(call)
        done.result(10)

    def _run(self) -> None:
        try:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._serving)
        finally:
            self._listener.close()
            self._loop.close()

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as connections:
            while True:
                connection = await self._accepted()
                # asyncio would do so itself only if the listener had been made with the number of TCP.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.open += 1
                task = connections.create_task(self._attend(connection))
                task.add_done_callback(partial(_close, connection))  # one cancelled before it began, too

    async def _accepted(self) -> socket.socket:
        """The next client. `sock_accept` would lose one that comes just when it is cancelled."""
        while True:
            listener, self._woken = self._listener, asyncio.Event()
            if not self._is_listening:
                await self._woken.wait()
                continue
            try:
                connection, _ = listener.accept()
            except BlockingIOError:
                self._loop.add_reader(listener, self._woken.set)
                try:
                    await self._woken.wait()
                finally:
                    if listener is self._listener:  # and not closed since
                        self._loop.remove_reader(listener)
            else:
                connection.setblocking(False)
                return connection

    def _listen(self, listening: bool) -> None:
        """Refuse connections from now on, or take them again. The port stays the same."""
        if listening == self._is_listening:
            return
        if listening:
            self._listener.listen(1024)
        else:
            self._loop.remove_reader(self._listener)
            self._listener.close()
            # A bound socket that does not listen keeps the port, and lets the system refuse.
            self._listener = socket.socket()
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", self.port))
            self._listener.setblocking(False)
        self._is_listening = listening
        self._woken.set()

    async def _attend(self, connection: socket.socket) -> None:
        try:
            await self.handle(connection)
        except OSError:
            pass  # one end is gone, of which the other end has heard
        finally:
            connection.close()
            self.open -= 1


def _close(connection: socket.socket, _: object) -> None:
    connection.close()
