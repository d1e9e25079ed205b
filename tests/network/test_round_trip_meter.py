"""The meter counts turns exactly, and passes every byte on. Times are only ever bounded from below."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby

import asyncpg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.network.ends import Echo, Ends, all_gone, connect, is_closed_by_its_peer, query, receive
from tests.support.network.round_trip_meter import MeterProcess, RoundTripMeter
from tests.support.network.traffic import Traffic
from tests.support.server import Server, free_port
from tests.support.waiting import until

from preheat.testing.network.forwarder import WINDOW, Delay, Line, Side


@pytest.fixture(scope="module")
def meter(ends: Ends) -> Iterator[RoundTripMeter]:
    with RoundTripMeter(ends.port) as made:
        yield made


@given(st.lists(st.tuples(st.sampled_from(["client", "server"]), st.binary(min_size=1, max_size=3000))))
def test_every_turn_is_a_round_trip_and_every_byte_arrives(
    ends: Ends, meter: RoundTripMeter, script: list[tuple[str, bytes]]
) -> None:
    """Round trips are the runs of writes by the client, and the connect."""
    with ends.connected(meter.port) as pair:
        for who, data in script:
            (pair.client_says if who == "client" else pair.server_says)(data)
        counted = meter.traffic[-1]
    assert counted.round_trips == 1 + [who for who, _ in groupby(who for who, _ in script)].count("client")
    assert counted.sent == sum(len(data) for who, data in script if who == "client")
    assert counted.received == sum(len(data) for who, data in script if who == "server")


def test_a_connection_is_counted_in_the_order_of_connecting(ends: Ends) -> None:
    with RoundTripMeter(ends.port) as meter:
        with ends.connected(meter.port) as first, ends.connected(meter.port) as second:
            second.client_says(b"a question")
            assert meter.round_trips == [1, 2]
            first.client_says(b"a question")
            first.server_says(b"an answer")
            first.client_says(b"another")
            assert meter.round_trips == [3, 2]
            assert meter.open == 2
        all_gone(meter)
        assert meter.round_trips == [3, 2]


def test_each_way_takes_half_the_round_trip_and_the_connect_a_whole_one(ends: Ends) -> None:
    with RoundTripMeter(ends.port, round_trip=0.04) as meter:
        started = time.perf_counter()
        with ends.connected(meter.port) as pair:
            assert time.perf_counter() - started >= 0.06  # SYN, SYN-ACK, ACK
            pair.client_says(b"a question")
            assert time.perf_counter() - started >= 0.06
            pair.server_says(b"an answer")
            assert time.perf_counter() - started >= 0.08
            pair.client_says(b"another")
            assert time.perf_counter() - started >= 0.1
            assert meter.round_trips == [3]


def test_data_that_the_client_has_not_received_ends_no_round_trip(ends: Ends) -> None:
    with RoundTripMeter(ends.port, round_trip=1.0) as meter, ends.connected(meter.port) as pair:
        pair.client.sendall(b"a question")
        pair.server.sendall(b"a greeting, half a second away from the client")
        pair.client.sendall(b"and one thing more")
        assert receive(pair.server, 28) == b"a questionand one thing more"
        assert meter.round_trips == [2]


def test_one_end_may_stop_sending_and_go_on_receiving(ends: Ends, meter: RoundTripMeter) -> None:
    with ends.connected(meter.port) as pair:
        pair.client_says(b"all that I have to say")
        pair.client.shutdown(socket.SHUT_WR)
        assert receive(pair.server, 1) == b""
        pair.server_says(b"good")
        pair.server.close()
        assert receive(pair.client, 1) == b""
    all_gone(meter)


def test_the_server_may_stop_sending_first(ends: Ends, meter: RoundTripMeter) -> None:
    with ends.connected(meter.port) as pair:
        pair.server.shutdown(socket.SHUT_WR)
        assert receive(pair.client, 1) == b""
        pair.client_says(b"still here")
    all_gone(meter)


def test_a_client_that_breaks_off_is_gone_for_the_server_too(ends: Ends, meter: RoundTripMeter) -> None:
    with ends.connected(meter.port) as pair:
        pair.server_says(b"hello")
        pair.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # close with a reset
        pair.client.close()
        assert is_closed_by_its_peer(pair.server)
    all_gone(meter)


def test_a_server_that_is_down_is_a_connection_that_closes() -> None:
    with RoundTripMeter(free_port()) as meter:
        for _ in range(2):
            with connect(meter.port) as client:
                assert is_closed_by_its_peer(client)
        assert meter.round_trips == [1, 1]


def test_leaving_breaks_off_what_is_open(ends: Ends) -> None:
    with ExitStack() as connection:
        with RoundTripMeter(ends.port) as meter:
            pair = connection.enter_context(ends.connected(meter.port))
            pair.client_says(b"hello")
        assert is_closed_by_its_peer(pair.client)
        assert is_closed_by_its_peer(pair.server)


def test_150_connections_at_once() -> None:
    async def go(port: int) -> None:
        everybody = asyncio.Barrier(150)

        async def ask(number: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for turn in range(3):
                await everybody.wait()
                question = b"%d %d" % (number, turn)
                writer.write(question)
                assert await reader.readexactly(len(question)) == question
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*map(ask, range(150)))

    with Echo() as echo, RoundTripMeter(echo.port, round_trip=0.01) as meter:
        asyncio.run(go(meter.port))
        all_gone(meter)
        assert meter.round_trips == [4] * 150


def test_a_line_stops_its_source_while_a_window_is_under_way() -> None:
    class Source:
        paused = False

        def pause(self, paused: bool) -> None:
            self.paused = paused

    class Target:
        received = 0

        def write(self, data: bytes) -> None:
            self.received += len(data)

    async def go() -> None:
        line = Line(Delay(0.01), 0.0)
        source, target = Source(), Target()
        line.source = source  # type: ignore[assignment]
        line.attach(target)  # type: ignore[arg-type]
        line.put(bytes(WINDOW))
        assert not source.paused
        line.put(bytes(1))
        assert source.paused
        await until(lambda: target.received > WINDOW)
        assert not source.paused
        line.block(True)
        assert source.paused
        line.block(False)
        assert not source.paused

    asyncio.run(go())


def test_small_pieces_leave_at_once(ends: Ends, meter: RoundTripMeter) -> None:
    """Nagle's algorithm is off on both sides of the meter."""
    seen: list[int] = []
    made = Side.connection_made

    def look(side: Side, transport: asyncio.BaseTransport) -> None:
        seen.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(side, transport)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Side, "connection_made", look)
        with ends.connected(meter.port) as pair:
            pair.client_says(b"hello")
    assert len(seen) == 2
    assert all(seen)


# with a real PostgreSQL, which has no TLS


@pytest.mark.parametrize(("sslmode", "round_trips", "opening"), [("disable", 4, "plain"), ("prefer", 5, "refused")])
def test_the_round_trips_to_a_connection(server: Server, sslmode: str, round_trips: int, opening: str) -> None:
    """Connect, perhaps an SSLRequest, start-up, and the two of SCRAM."""

    async def go(port: int) -> list[Traffic]:
        connection = await asyncpg.connect(server.dsn(port=port).replace("disable", sslmode))
        connected = meter.traffic
        await connection.close()
        return connected

    with RoundTripMeter(server.port) as meter:
        [connected] = asyncio.run(go(meter.port))
        all_gone(meter)
        [closed] = meter.traffic
    assert (connected.round_trips, connected.opening, connected.cancel) == (round_trips, opening, False)
    assert (closed.round_trips, closed.sent) == (round_trips + 1, connected.sent + 5)  # Terminate


@pytest.mark.parametrize("sslmode", ["disable", "prefer"])
def test_a_cancel_request_is_told_from_a_connection(server: Server, sslmode: str) -> None:
    async def go(port: int) -> None:
        connection = await asyncpg.connect(server.dsn(port=port).replace("disable", sslmode))
        with pytest.raises(TimeoutError):
            await connection.execute("SELECT pg_sleep(60)", timeout=0.05)
        assert await connection.fetchval("SELECT 42") == 42
        await connection.close()

    with RoundTripMeter(server.port) as meter:
        asyncio.run(go(meter.port))
        assert [one.cancel for one in meter.traffic] == [False, True]


def test_50_megabytes_pass_each_way(server: Server) -> None:
    line, lines = b"x" * 999 + b"\n", 50_000

    async def go(port: int) -> None:
        connection = await asyncpg.connect(server.dsn(port=port))
        try:
            await connection.execute("CREATE TEMPORARY TABLE big (line text)")

            async def source() -> object:
                for _ in range(lines // 1000):
                    yield line * 1000

            await connection.copy_to_table("big", source=source())
            received = 0

            async def sink(data: bytes) -> None:
                nonlocal received
                received += len(data)

            await connection.copy_from_table("big", output=sink)
            assert received == len(line) * lines
        finally:
            await connection.close()

    with RoundTripMeter(server.port, round_trip=0.002) as meter:
        asyncio.run(go(meter.port))
        [counted] = meter.traffic
    assert counted.sent > len(line) * lines
    assert counted.received > len(line) * lines


# in a process of its own


def test_a_meter_of_its_own_process_tells_its_counts(server: Server) -> None:
    with MeterProcess(server.port, round_trip=0.001) as meter:
        assert meter.round_trips() == []
        query(server.dsn(port=meter.port), "disable")
        [round_trips] = meter.round_trips()
        assert round_trips >= 6  # with two for the query: asyncpg prepares it first
        query(server.dsn(port=meter.port), "prefer")
        assert len(meter.round_trips()) == 2
        assert [one.opening for one in meter.traffic()] == ["plain", "refused"]


def test_a_meter_of_its_own_process_ends_with_its_input(ends: Ends) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.support.network.round_trip_meter",
        "--port",
        str(ends.port),
        "--round-trip",
        "0.01",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b'{"port": ')
        process.communicate(timeout=20)
    assert process.returncode == 0


def test_a_meter_that_cannot_start_says_so() -> None:
    with pytest.raises(RuntimeError, match="ended at once"), MeterProcess(0, "never"):  # type: ignore[arg-type]
        pass
