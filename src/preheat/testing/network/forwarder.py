"""Forward a connection's bytes both ways, each a given time late: in order, half-closes too, in constant memory."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, cast

WINDOW = 8 * 2**20
"""Bytes that may be under way in one direction before its sender has to wait, as with TCP's own window."""

SPIN = 0.0004
"""Seconds before a piece is due from which the loop goes round without sleeping: the kernel wakes sleepers late."""


class Watcher(Protocol):
    """Sees what passes at the client's door of a forwarder."""

    def from_client(self, data: bytes) -> None:
        """The client has sent `data`."""
        ...

    def to_client(self, data: bytes) -> None:
        """The client is given `data`, after all delay."""
        ...


class Delay:
    """How long pieces take in one direction.

    Args:
        seconds: that each piece is under way.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds = seconds

    def seconds_to_send(self, length: int) -> float:
        """How long the line is busy with a piece before the next one can set out."""
        return 0.0

    def seconds_under_way(self) -> float:
        """How long a piece that has set out takes."""
        return self._seconds


class Line:
    """One direction: what is put in comes out at the other end, in order, `delay` seconds later.

    Until `target` is attached, everything waits.

    Args:
        delay: how long each piece takes.
        opens: the loop's time before which nothing sets out, in seconds.
    """

    def __init__(self, delay: Delay, opens: float) -> None:
        self.source: Side
        self._target: Side | None = None
        self.delay = delay
        self._free = opens
        self._last_due = 0.0
        self._loop = asyncio.get_running_loop()
        self._pieces: deque[tuple[float, bytes | None]] = deque()
        self._bytes = 0
        self._blocked = False
        # One timer for all pieces: timers that are due at the same time fire in any order.
        self._timer: asyncio.Handle | None = None

    def put(self, piece: bytes | None) -> None:
        """Send a piece on its way; an empty one says that no more follows, and None that the source is gone."""
        self._free = max(self._loop.time(), self._free) + self.delay.seconds_to_send(len(piece or b""))
        self._last_due = max(self._last_due, self._free + self.delay.seconds_under_way())
        self._pieces.append((self._last_due, piece))
        self._bytes += len(piece or b"")
        self._deliver()

    def attach(self, target: Side) -> None:
        """Let pieces come out at `target`."""
        self._target = target
        self._deliver()

    def block(self, blocked: bool) -> None:
        """Say whether the target's reader is too slow."""
        self._blocked = blocked
        self._throttle()

    def _deliver(self) -> None:
        while self._target and self._pieces and self._pieces[0][0] <= self._loop.time():
            _, piece = self._pieces.popleft()
            self._bytes -= len(piece or b"")
            if piece is None:
                self._target.close()
            elif piece:
                self._target.write(piece)
            else:
                self._target.finish()
        if self._target and self._pieces and self._timer is None:
            early = self._pieces[0][0] - SPIN
            sleep = early > self._loop.time()
            self._timer = self._loop.call_at(early, self._due) if sleep else self._loop.call_soon(self._due)
        self._throttle()

    def _due(self) -> None:
        self._timer = None
        self._deliver()

    def _throttle(self) -> None:
        self.source.pause(self._blocked or self._bytes > WINDOW)


class Side(asyncio.Protocol):
    """One end of a forwarder: a socket that feeds one line and is fed by the other."""

    def __init__(self, outgoing: Line, incoming: Line, watcher: Watcher | None = None) -> None:
        outgoing.source = self
        self.lost: asyncio.Event = asyncio.Event()
        self.transport: asyncio.Transport | None = None
        self._outgoing = outgoing
        self._incoming = incoming
        self._watcher = watcher
        self._paused = False
        self._ended = False  # it has said that it sends no more
        self._finished = False  # it has been told that no more comes

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected."""
        self.transport = cast("asyncio.Transport", transport)
        self._incoming.attach(self)

    def data_received(self, data: bytes) -> None:
        """The socket has sent `data`."""
        if self._watcher:
            self._watcher.from_client(data)
        self._outgoing.put(data)

    def eof_received(self) -> bool:
        """The socket sends no more."""
        self._ended = True
        self._outgoing.put(b"")
        assert self.transport is not None
        return self.transport.can_write_eof() and not self._finished  # whether the socket stays open; TLS's never does

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        self._ended = True
        self._outgoing.put(None)
        self.lost.set()

    def pause_writing(self) -> None:
        """The socket's reader is too slow."""
        self._incoming.block(True)

    def resume_writing(self) -> None:
        """The socket's reader has caught up."""
        self._incoming.block(False)

    def write(self, data: bytes) -> None:
        """A piece has come out of the line."""
        assert self.transport is not None
        if self.transport.is_closing():
            return
        if self._watcher:
            self._watcher.to_client(data)
        self.transport.write(data)

    def finish(self) -> None:
        """No more comes for this side: it is closed now if it has ended itself, and half-closed otherwise."""
        assert self.transport is not None
        self._finished = True
        if self._ended or not self.transport.can_write_eof():
            self.transport.close()
        else:
            self.transport.write_eof()

    def close(self) -> None:
        """The other side is gone."""
        assert self.transport is not None
        self.transport.close()

    def pause(self, paused: bool) -> None:
        """Stop reading from the socket, or go on."""
        # An ended socket that is resumed would tell of its end once more.
        if self.transport is None or self._ended or paused == self._paused:
            return
        self._paused = paused
        if paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()


class Forwarder:
    """Two sides, each the protocol of one transport; leaving it ends both connections.

    Args:
        delay: seconds that each piece takes, either way, or what says so.
        opens: the loop's time at which the client's first piece may set out, in seconds.
        watcher: told of every piece at the client's door.
        side: makes the two sides, the client's first.
    """

    def __init__(
        self,
        delay: float | Delay = 0.0,
        *,
        opens: float = 0.0,
        watcher: Watcher | None = None,
        side: Callable[[Line, Line, Watcher | None], Side] | None = None,
    ) -> None:
        either = delay if isinstance(delay, Delay) else Delay(delay)
        up, down = Line(either, opens), Line(either, opens)
        make = side or Side
        self.client: Side = make(up, down, watcher)
        self.server: Side = make(down, up, None)

    async def ended(self) -> None:
        """Wait until both connections are closed."""
        await self.client.lost.wait()
        await self.server.lost.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Not shielded: aborting never waits for a peer, only for the loop's next rounds.
        for side in (self.client, self.server):
            if side.transport is not None:
                side.transport.abort()
                await side.lost.wait()
