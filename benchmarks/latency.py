"""A TCP proxy on loopback that adds latency and counts flights.

A *flight* is one turn of the traffic from client to server: what a client sends before it waits. Over a network,
flights times the round trip is most of what a first answer takes, and their count depends on no machine.

The proxy runs in a thread with an event loop of its own, so that it serves clients on any backend.
"""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self


class LatencyProxy:
    """Forwards connections to a server on loopback, each way `round_trip / 2` seconds late.

    Args:
        port: the server's port.
        round_trip: seconds for one way and back.
    """

    def __init__(self, port: int, round_trip: float = 0.0) -> None:
        self.port = 0
        """Where to connect to, once entered."""
        self.flights: list[int] = []
        """Flights of each connection so far, in the order of connecting; a TCP connect is one itself."""
        self._server_port = port
        self._one_way = round_trip / 2
        self._started = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="latency proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        connections: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            connections.add(task)
            try:
                await self._forward(reader, writer)
            except (OSError, asyncio.CancelledError):
                pass
            finally:
                connections.discard(task)
                writer.close()

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        await self._stop.wait()
        server.close()
        for task in list(connections):
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.flights)
        self.flights.append(1)  # the connect
        # A TCP connect takes one round trip; the kernel has accepted this one at once.
        await asyncio.sleep(2 * self._one_way)
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        last = "server"

        def sent(who: str) -> None:
            nonlocal last
            if who == "client" and last == "server":
                self.flights[number] += 1
            last = who

        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(reader, up_writer, "client", sent))
                tasks.create_task(self._pump(up_reader, writer, "server", sent))
        finally:
            up_writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, who: str, sent: object) -> None:
        """Copy one direction. Each piece leaves one way's time after it came, however many are on the way."""
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, piece = await pieces.get()
                await asyncio.sleep(due - loop.time())
                if not piece:
                    writer.close()
                    return
                writer.write(piece)

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(deliver())
            while True:
                piece = await reader.read(65536)
                if piece:
                    sent(who)  # type: ignore[operator]
                pieces.put_nowait((loop.time() + self._one_way, piece))
                if not piece:
                    break
