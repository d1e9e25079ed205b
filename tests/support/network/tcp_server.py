"""A TCP server on loopback, in a thread with an event loop of its own.

It serves clients on any backend, and none at all: whoever enters it need not be asynchronous.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class TCPServer:
    """Listens from entering to leaving, and gives each connection to `handle`.

    At most about 500 connections at once: `select` sees only the first 1024 files of a process.
    """

    def __init__(self) -> None:
        self.port = 0
        """Where to connect to on 127.0.0.1, once entered."""
        self.open = 0
        """How many accepted connections are being handled now; 0 once the last one's bytes have all passed."""
        self._listener: socket.socket
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

    def _run(self) -> None:
        try:
            with self._listener, suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._serving)
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        async with asyncio.TaskGroup() as connections:
            while True:
                connection = await self._accepted()
                # asyncio would do so itself only if the listener had been made with the number of TCP.
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.open += 1
                task = connections.create_task(self._attend(connection))
                task.add_done_callback(
                    lambda _, socket=connection: socket.close()
                )  # one cancelled before it began, too

    async def _accepted(self) -> socket.socket:
        """The next client. `sock_accept` would lose one that comes just when it is cancelled."""
        while True:
            try:
                connection, _ = self._listener.accept()
            except BlockingIOError:
                ready = asyncio.Event()
                self._loop.add_reader(self._listener, ready.set)
                try:
                    await ready.wait()
                finally:
                    self._loop.remove_reader(self._listener)
            else:
                connection.setblocking(False)
                return connection

    async def _attend(self, connection: socket.socket) -> None:
        try:
            await self.handle(connection)
        except OSError:
            pass  # one end is gone, of which the other end has heard
        finally:
            connection.close()
            self.open -= 1
