"""A TCP proxy on loopback that adds latency and counts round trips, which `tests.support.network.traffic` defines.

`RoundTripMeter` works in a thread, which is enough for counts. For times there is `MeterProcess`: a process of its
own, which takes no time from whoever is measured. Programs in other environments start that one themselves,

    python -m tests.support.network.round_trip_meter --port 5432 --round-trip 0.02

read `{"port": ..., "control": ...}` from its first line, and for each newline that they send to the port `control`
get one line `{"round_trips": [...], "traffic": [...]}`, a list over the connections. It ends when its input is closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.network.traffic import Tally, Traffic

from preheat.testing.network.forwarder import Forwarder
from preheat.testing.network.tcp_server import TCPServer


class RoundTripMeter(TCPServer):
    """Forwards connections to a server on loopback, each way `round_trip / 2` seconds late.

    A client's bytes count when they have come here, the server's when they leave here for the client: a client that
    has its answer has been counted. A server that is down shows as a connection that closes at once.

    Args:
        port: the server's port.
        round_trip: seconds for one way and back.
    """

    def __init__(self, port: int, round_trip: float = 0.0) -> None:
        super().__init__()
        self._server_port = port
        self._one_way = round_trip / 2
        self._tallies: list[Tally] = []

    @property
    def round_trips(self) -> list[int]:
        """Round trips of each connection so far, in the order of connecting; a TCP connect is one itself."""
        return [tally.round_trips for tally in self._tallies]

    @property
    def traffic(self) -> list[Traffic]:
        """What has passed on each connection so far, in the order of connecting."""
        return [tally.traffic() for tally in self._tallies]

    async def handle(self, connection: socket.socket) -> None:
        """Play the network: the kernel has accepted at once what takes three ways, SYN, SYN-ACK and ACK.

        The client may send after the second; the server hears of the connection with the third.
        """
        loop = asyncio.get_running_loop()
        tally = Tally()
        self._tallies.append(tally)
        async with Forwarder(self._one_way, opens=loop.time() + 2 * self._one_way, watcher=tally) as forwarder:
            await loop.connect_accepted_socket(lambda: forwarder.client, connection)
            await asyncio.sleep(3 * self._one_way)
            await loop.create_connection(lambda: forwarder.server, "127.0.0.1", self._server_port)
            await forwarder.ended()


class Control(TCPServer):
    """Tells a meter's counts: a line of JSON for each line that comes."""

    def __init__(self, meter: RoundTripMeter) -> None:
        super().__init__()
        self._meter = meter

    async def handle(self, connection: socket.socket) -> None:
        """Answer until the asker closes."""
        loop = asyncio.get_running_loop()
        while asked := await loop.sock_recv(connection, 1024):
            for _ in range(asked.count(b"\n")):
                traffic = [asdict(one) for one in self._meter.traffic]
                counts = {"round_trips": [one["round_trips"] for one in traffic], "traffic": traffic}
                await loop.sock_sendall(connection, json.dumps(counts).encode() + b"\n")


class MeterProcess:
    """A `RoundTripMeter` in a process of its own, from entering to leaving.

    Args:
        port: the server's port.
        round_trip: seconds for one way and back.
    """

    def __init__(self, port: int, round_trip: float = 0.0) -> None:
        self.port = 0
        """Where to connect to on 127.0.0.1, once entered."""
        self.control = 0
        """The port that tells counts, once entered."""
        self._arguments = ["--port", str(port), "--round-trip", repr(round_trip)]
        self._cleanup = ExitStack()

    def round_trips(self) -> list[int]:
        """Round trips of each connection so far, in the order of connecting. Blocks for well under a millisecond."""
        return [one.round_trips for one in self.traffic()]

    def traffic(self) -> list[Traffic]:
        """What has passed on each connection so far, in the order of connecting."""
        self._asking.write(b"\n")
        self._asking.flush()
        counts = json.loads(self._asking.readline())
        return [Traffic(**one) for one in counts["traffic"]]

    def __enter__(self) -> Self:
        with ExitStack() as cleanup:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.support.network.round_trip_meter", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                cwd=Path(__file__).parents[3],
            )
            cleanup.enter_context(process)  # closes its input, and waits
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said:
                raise RuntimeError("the meter's process has ended at once; its error is above")
            where: dict[str, Any] = json.loads(said)
            self.port, self.control = where["port"], where["control"]
            connection = cleanup.enter_context(socket.create_connection(("127.0.0.1", self.control)))
            self._asking = cleanup.enter_context(connection.makefile("rwb"))
            self._cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cleanup.close()


def main() -> None:
    """Run a meter until the input is closed."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.network.round_trip_meter")
    parser.add_argument("--port", type=int, required=True, help="the server's port on 127.0.0.1")
    parser.add_argument("--round-trip", type=float, default=0.0, help="seconds for one way and back")
    arguments = parser.parse_args()
    with RoundTripMeter(arguments.port, arguments.round_trip) as meter, Control(meter) as control:
        print(json.dumps({"port": meter.port, "control": control.port}), flush=True)
        with suppress(KeyboardInterrupt):
            sys.stdin.read()


if __name__ == "__main__":
    main()
