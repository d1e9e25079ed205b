"""What a pool of preheat's own promises, against a real server, on asyncio and trio."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import AsyncGenerator, Iterator
from typing import Any

import anyio
import pytest
from tests.pools.test_closing import stopped
from tests.support.server import PASSWORD, Server
from tests.support.waiting import until

from preheat import (
    ArgumentError,
    Chunk,
    ConnectError,
    DatabaseError,
    PoolBusyError,
    PreheatError,
    VectorStorage,
    open_pool,
    warm,
)
from preheat.pools import (
    CallerWaited,
    ConnectionClosed,
    ConnectionLost,
    ConnectionOpened,
    PoolEvent,
    PoolStatistics,
)
from preheat.pools.asyncpg import pool as asyncpg_pool
from preheat.pools.asyncpg.reads import is_read

PID = "SELECT pg_backend_pid() AS pid"


@pytest.fixture
def silent() -> Iterator[str]:
    """The DSN of a server that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield f"postgresql://u@127.0.0.1:{listener.getsockname()[1]}/db?sslmode=disable"


def own(pool: Any) -> asyncpg_pool.OwnAsyncpgPool:
    """The pool inside all its wrappers."""
    while (inner := getattr(pool, "__wrapped__", None)) is not None:
        pool = inner
    assert isinstance(pool, asyncpg_pool.OwnAsyncpgPool)
    return pool


async def pid_of(pool: Any) -> int:
    [row] = await pool.fetch(PID)
    pid: int = row["pid"]
    return pid


@contextlib.asynccontextmanager
async def in_use(pool: Any) -> AsyncGenerator[None]:
    """One connection of the pool is in use."""
    async with pool.lease() as lease:
        await lease.ping()
        yield


# Bounds


async def test_a_caller_waits_for_a_connection_no_longer_than_it_may(dsn: str) -> None:
    async with open_pool(dsn, size=1, acquire_timeout=0.2) as pool, in_use(pool):
        with anyio.fail_after(5), pytest.raises(PoolBusyError, match=r"within 0.2 s: 1 of 1 connections are in use"):
            await pool.fetch("SELECT 1")

        assert pool.statistics().timeouts == 1


@pytest.mark.slow
async def test_every_caller_at_a_mute_database_has_an_answer_within_the_bound(silent: str) -> None:
    ended: list[type[Exception]] = []

    async def caller(pool: Any) -> None:
        try:
            await pool.fetch("SELECT 1")
        except ConnectError as error:
            ended.append(type(error))

    async with open_pool(silent, size=2, connect_timeout=0.3, acquire_timeout=1) as pool:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(2000):
                    tasks.start_soon(caller, pool)

    assert len(ended) == 2000


async def test_callers_beyond_max_waiting_are_turned_away_at_once(dsn: str) -> None:
    async with open_pool(dsn, size=1, max_waiting=1) as pool:
        async with in_use(pool), anyio.create_task_group() as tasks:
            tasks.start_soon(pool.fetch, "SELECT 1")
            await anyio.wait_all_tasks_blocked()
            with pytest.raises(PoolBusyError, match="1 callers wait for a connection already"):
                await pool.fetch("SELECT 1")
            tasks.cancel_scope.cancel()

        assert await pool.fetch("SELECT 1")


@pytest.fixture(params=["by default", "asked for"])
def limit(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of a pool whose statements have 0.3 s."""
    if request.param == "asked for":
        return {"statement_timeout": 0.3}
    monkeypatch.setattr(asyncpg_pool, "FETCH_SECONDS", 0.3)
    return {}


async def test_a_statement_ends_when_its_time_is_up_on_both_sides(
    server: Server, dsn: str, limit: dict[str, Any]
) -> None:
    async with open_pool(dsn + "&application_name=both-sides", size=1, **limit) as pool:
        calls = [pool.fetch("SELECT pg_sleep(60)"), pool.fetch("SELECT pg_sleep(61)")]
        if limit:
            calls.append(pool.run(lambda connection: connection.execute("SELECT pg_sleep(60)")))
        for call in calls:
            with anyio.fail_after(5), pytest.raises(DatabaseError, match=r"no answer within 0.3 s") as caught:
                await call
            assert caught.value.sqlstate == "57014"

        assert await pool.fetch("SELECT 1")
        sleeping = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'both-sides' AND state = 'active'"
        await until(lambda: not server.sql(sleeping))


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGSTOP")
async def test_a_statement_of_a_mute_server_ends_when_its_time_is_up(dsn: str, limit: dict[str, Any]) -> None:
    async with open_pool(dsn, size=2, **limit) as pool:
        pid = await pid_of(pool)
        with stopped([pid]), anyio.fail_after(5):
            with pytest.raises(DatabaseError, match="no answer within"):
                await pool.fetch("SELECT 1")

            assert await pid_of(pool) != pid


async def test_statements_side_by_side_have_their_time_each(dsn: str, limit: dict[str, Any]) -> None:
    ended: list[str] = []

    async def call(name: str, seconds: float, delay: float) -> None:
        await anyio.sleep(delay)
        try:
            await pool.fetch("SELECT pg_sleep($1::float)", seconds)
            ended.append(name)
        except DatabaseError:
            ended.append(f"{name} late")

    async with open_pool(dsn, size=3, **limit) as pool:
        assert (await warm(pool, connections=3)).ok
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, "first", 60, 0)
            tasks.start_soon(call, "second", 60, 0.1)
            tasks.start_soon(call, "third", 0.01, 0.15)

    assert ended == ["third", "first late", "second late"]


async def test_a_time_limit_of_a_callers_own_code_is_raised_as_it_is(dsn: str) -> None:
    async def operation(connection: Any) -> None:
        await connection.fetch("SELECT 1")
        raise TimeoutError("mine")

    async with open_pool(dsn, size=1, statement_timeout=5) as pool:
        with pytest.raises(TimeoutError, match="mine"):
            await pool.run(operation)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("acquire_timeout", 0),
        ("statement_timeout", -1),
        ("max_lifetime", 0),
        ("max_idle", float("nan")),
        ("max_waiting", -1),
        ("prepare", "sometimes"),
    ],
)
def test_an_invalid_option_is_refused_before_anything_is_opened(option: str, value: Any) -> None:
    with pytest.raises(ArgumentError, match=option):
        open_pool("postgresql://u@h/d", **{option: value})


async def test_each_socket_notices_a_peer_that_is_gone(dsn: str) -> None:
    async with open_pool(dsn, size=1) as pool:
        await pool.fetch("SELECT 1")
        [place] = own(pool)._places.idle
        sock = place.connection._transport.get_extra_info("socket")

        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000


# Whichever comes first


async def test_a_caller_takes_a_connection_that_comes_back_before_its_own_is_open(dsn: str, silent: str) -> None:
    async with open_pool(dsn, size=2) as pool:
        inner = own(pool)
        pid = await pid_of(pool)
        real, inner._opener = inner._opener, hanging  # type: ignore[assignment]
        async with pool.lease() as lease:
            await lease.ping()
            async with anyio.create_task_group() as tasks:
                answers: list[int] = []

                async def caller() -> None:
                    answers.append(await pid_of(pool))

                tasks.start_soon(caller)
                await anyio.wait_all_tasks_blocked()
                assert pool.statistics().connecting == 1
                await release_now(lease)
                with anyio.fail_after(5):
                    while not answers:
                        await anyio.lowlevel.checkpoint()
        inner._opener = real

        assert answers == [pid]


async def hanging(deadline: float) -> Any:
    await asyncio.Event().wait()


async def release_now(lease: Any) -> None:
    """Give a connection back before its `async with` ends."""
    inner = getattr(lease, "_lease", lease)
    assert inner._pool.release_nowait(inner)


def limited(server: Server, connections: int) -> str:
    """The DSN of a role that may have so many connections."""
    role = f"limited_to_{connections}"
    server.sql(f"DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}';")
    server.sql(f"ALTER ROLE {role} CONNECTION LIMIT {connections};")
    return server.dsn("tests", user=role)


async def test_a_server_that_takes_no_more_makes_callers_wait_for_a_connection_of_ours(
    server: Server, dsn: str
) -> None:
    answers: list[int] = []

    async def caller(pool: Any) -> None:
        [row] = await pool.fetch("SELECT pg_backend_pid() AS pid, pg_sleep(0.01)")
        answers.append(row["pid"])

    async with open_pool(limited(server, 2), size=10) as pool:
        with anyio.fail_after(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(caller, pool)

    assert len(answers) == 20
    assert len(set(answers)) == 2


async def test_a_server_without_a_place_for_us_says_so(server: Server, dsn: str) -> None:
    async with open_pool(limited(server, 0), size=2) as pool:
        with anyio.fail_after(5), pytest.raises(ConnectError, match="raise the limit") as caught:
            await pool.fetch("SELECT 1")

    assert caught.value.sqlstate == "53300"


# Dead connections


async def terminate(server: Server, name: str) -> None:
    """The server ends all sessions of an application, while the event loop stands still."""
    server.sql(
        f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = '{name}'",
    )


@pytest.mark.parametrize("asked", [True, False])
async def test_sessions_that_ended_while_the_loop_stood_still_cost_nobody_an_answer(
    server: Server, dsn: str, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not the operating system can be asked about a connection."""
    if not asked:
        monkeypatch.setattr(asyncpg_pool, "has_hung_up", lambda _: False)
    results: list[Any] = []
    async with open_pool(dsn, size=5, application_name="thaw") as pool:
        assert (await warm(pool, connections=5)).ok
        await terminate(server, "thaw")
        async with anyio.create_task_group() as tasks:
            for _ in range(5):

                async def caller() -> None:
                    results.append(await pool.fetch("SELECT 1 AS one"))

                tasks.start_soon(caller)

        assert [row["one"] for [row] in results] == [1] * 5
        seen = pool.statistics()
        assert seen.lost + seen.closed == 5
        assert seen.lost >= 2  # when two are lost, the others are given up


@pytest.mark.parametrize("asked", [True, False])
async def test_a_write_is_never_run_again(
    server: Server, dsn: str, collection: str, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not asked:
        monkeypatch.setattr(asyncpg_pool, "has_hung_up", lambda _: False)
    write = f"INSERT INTO {collection} VALUES (1) RETURNING n"
    async with open_pool(dsn, size=1, application_name="no-write") as pool:
        await pool.run(lambda connection: connection.execute(f"CREATE TABLE {collection} (n int)"))
        await terminate(server, "no-write")
        outcome: Any = None
        try:
            outcome = await pool.fetch(write)
        except ConnectError as error:
            outcome = error
        [row] = await pool.fetch(f"SELECT count(*) AS n FROM {collection}")

        # Where the system could tell that the connection was dead, the write was sent once, on a new one.
        assert row["n"] == (0 if isinstance(outcome, ConnectError) else 1)
        assert asked or isinstance(outcome, ConnectError)


async def test_a_read_that_kills_new_connections_fails(dsn: str) -> None:
    """A connection that was never idle is no excuse."""
    async with open_pool(dsn, size=1) as pool:
        with pytest.raises(ConnectError):
            await pool.fetch("SELECT 1 FROM (SELECT pg_terminate_backend(pg_backend_pid())) x")


@pytest.mark.parametrize(
    ("query", "reads"),
    [
        ("SELECT 1", True),
        ("  with x as (select 1) select * from x", True),
        ("VALUES (1)", True),
        ("INSERT INTO t VALUES (1) RETURNING 1", False),
        ("WITH gone AS (DELETE FROM t RETURNING 1) SELECT * FROM gone", False),
        ("SELECT * INTO t FROM x", False),
        ("SELECT nextval('s')", False),
        ("SELECT pg_terminate_backend(1)", False),
        ("SELECT pg_advisory_lock(1)", False),
        ("SELECT * FROM t FOR UPDATE", False),
        ("EXPLAIN ANALYZE UPDATE t SET n = 1", False),
        ("BEGIN", False),
    ],
)
def test_a_read_is_told_by_its_words(query: str, reads: bool) -> None:
    assert is_read(query) is reads


async def test_a_session_whose_statements_were_discarded_is_mended(dsn: str, collection: str) -> None:
    async with VectorStorage(dsn, collection, 3, size=1, warm="startup", warm_connections=1) as storage:
        await storage.add([Chunk("a", [1, 0, 0])])
        await storage.search([1, 0, 0])
        async with storage.get_connection() as connection:
            await connection.execute("DISCARD ALL")

        assert [hit.text for hit in await storage.search([1, 0, 0])] == ["a"]


async def test_a_statement_whose_table_has_changed_is_planned_again(dsn: str, collection: str) -> None:
    async with open_pool(dsn, size=1) as pool, open_pool(dsn, size=1) as other:
        await pool.run(lambda connection: connection.execute(f"CREATE TABLE {collection} AS SELECT 1 AS n"))
        await pool.fetch(f"SELECT * FROM {collection}")
        await other.run(lambda connection: connection.execute(f"ALTER TABLE {collection} ADD COLUMN m int DEFAULT 2"))

        [row] = await pool.fetch(f"SELECT * FROM {collection}")
        assert dict(row) == {"n": 1, "m": 2}


async def test_a_connection_that_takes_no_writes_is_left_for_another(dsn: str) -> None:
    async with open_pool(dsn, size=1) as pool:
        pid = await pid_of(pool)
        with pytest.raises(DatabaseError) as caught:
            await pool.run(
                lambda connection: connection.execute("BEGIN READ ONLY; CREATE TABLE never (); COMMIT"),
            )
        assert caught.value.sqlstate == "25006"
        assert await pid_of(pool) != pid


# The wrong place


@pytest.mark.parametrize("anyio_backend", [pytest.param("asyncio", id="asyncio")])
async def test_another_event_loop_is_told_and_the_owner_is_undisturbed(dsn: str) -> None:
    async with open_pool(dsn, size=1) as pool:
        await pool.fetch("SELECT 1")
        opened = own(pool).statistics().opened

        async def elsewhere() -> list[str]:
            told = []
            for call in (pool.fetch("SELECT 1"), pool.run(lambda connection: connection.fetch("SELECT 1"))):
                with pytest.raises(PreheatError, match="another event loop") as caught:
                    await call
                told.append(str(caught.value))
            with pytest.raises(PreheatError, match="another event loop"):
                async with pool.lease():
                    pass
            return told

        for message in await anyio.to_thread.run_sync(functools.partial(asyncio.run, elsewhere())):
            assert message.count("EventLoop") == 2
        assert await pool.fetch("SELECT 1")
        assert own(pool).statistics().opened == opened


async def test_a_thread_with_a_trio_of_its_own_is_told(dsn: str) -> None:
    async with open_pool(dsn, size=1) as pool:

        async def elsewhere() -> None:
            with pytest.raises(PreheatError, match="another event loop"):
                await pool.fetch("SELECT 1")

        await anyio.to_thread.run_sync(functools.partial(anyio.run, elsewhere, backend="trio"))
        assert await pool.fetch("SELECT 1")


FORK = """
import gc, os, sys, anyio
from preheat import PreheatError, open_pool, warm

async def main():
    async with open_pool(sys.argv[2], size=2) as pool:
        assert (await warm(pool, connections=2)).ok
        if os.fork() == 0:
            code = 1
            try:
                pool.fetch("SELECT 1").send(None)
            except PreheatError as error:
                code = 0 if "forked child" in str(error) else 2
            gc.collect()
            if sys.argv[1] == "trio":  # which itself does not survive the end of a program in its child
                os._exit(code)
            sys.exit(code)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        for _ in range(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(2):
                    tasks.start_soon(pool.fetch, "SELECT 1")
        assert pool.statistics().opened == 2
        assert pool.statistics().lost == 0

try:
    anyio.run(main, backend=sys.argv[1])
except SystemExit as leaving:  # of the child, out of the parent's event loop
    gc.collect()
    os._exit(leaving.code)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_child_is_told_and_closes_nothing_of_its_parents(dsn: str, backend: str) -> None:
    program = [sys.executable, "-c", textwrap.dedent(FORK), backend, dsn]
    done = subprocess.run(program, check=False, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr


# What can be seen


async def test_statistics_and_hooks_tell_what_has_happened(server: Server, dsn: str) -> None:
    events: list[PoolEvent] = []

    def fails(event: PoolEvent) -> None:
        raise KeyError("a hook must not harm the pool")

    async with open_pool(dsn, size=2, name="seen", application_name="seen", hooks=[events.append, fails]) as pool:
        assert pool.statistics().as_dict() == {
            field: 2 if field == "max" else "seen" if field == "pool" else 0
            for field in PoolStatistics.__dataclass_fields__
        }
        async with in_use(pool):
            pid = await pid_of(pool)
            seen = pool.statistics()
            assert (seen.idle, seen.used, seen.open, seen.opened, seen.waits) == (1, 1, 2, 2, 2)
            assert seen.create_seconds > 0
            assert seen.wait_seconds > 0
        await terminate(server, "seen")
        with anyio.fail_after(5):
            while pool.statistics().lost < 2:
                await anyio.lowlevel.checkpoint()
        await pool.fetch("SELECT 1")

    kinds = [type(event) for event in events]
    assert kinds.count(ConnectionOpened) == kinds.count(CallerWaited) == 3
    assert kinds.count(ConnectionLost) == 2
    assert kinds.count(ConnectionClosed) == 1
    assert pid in {event.pid for event in events if isinstance(event, ConnectionLost)}
    assert all(event.pool == "seen" for event in events)


async def test_hooks_can_be_added_and_removed(dsn: str) -> None:
    events: list[PoolEvent] = []
    pool = open_pool(dsn, size=1)
    with pytest.raises(ConnectError, match="not open"):
        pool.add_hook(events.append)
    await pool.open()
    try:
        pool.add_hook(events.append)
        await pool.fetch("SELECT 1")
        pool.remove_hook(events.append)
        pool.remove_hook(events.append)
    finally:
        await pool.close()
    assert sorted(type(event).__name__ for event in events) == ["CallerWaited", "ConnectionOpened"]


async def test_the_server_shows_the_name_of_the_application(dsn: str) -> None:
    for pool, name in (
        (open_pool(dsn), "preheat"),
        (open_pool(dsn, application_name="mine"), "mine"),
        (open_pool(dsn + "&application_name=of-the-dsn", application_name="mine"), "of-the-dsn"),
    ):
        async with pool as opened:
            [row] = await opened.fetch("SELECT current_setting('application_name') AS name")
            assert row["name"] == name


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_password_may_be_asked_for_each_connection(server: Server, dsn: str, is_async: bool) -> None:
    asked: list[str] = []

    def now() -> str:
        asked.append("asked")
        return "s3cret/p@ss"

    async def later() -> str:
        await anyio.lowlevel.checkpoint()
        return now()

    wrong = server.dsn("tests", password="expired")
    async with open_pool(wrong, size=2, password=later if is_async else now) as pool, in_use(pool):
        await pool.fetch("SELECT 1")

    assert len(asked) == 2


async def test_a_password_that_cannot_be_had_is_the_callers_own_error(dsn: str) -> None:
    async def fails() -> str:
        raise LookupError("no token")

    async with open_pool(dsn, size=1, password=fails) as pool:
        with pytest.raises(LookupError, match="no token"):
            await pool.fetch("SELECT 1")


async def test_each_connection_is_initialized_once(dsn: str) -> None:
    seen: list[int] = []

    async def init(connection: Any) -> None:
        seen.append(await connection.fetchval("SELECT pg_backend_pid()"))

    async with open_pool(dsn, size=2, init=init) as pool:
        async with in_use(pool):
            other = await pid_of(pool)
        for _ in range(3):
            await pool.fetch("SELECT 1")

    assert len(seen) == len(set(seen)) == 2
    assert other in seen


async def test_connections_can_be_made_by_a_function_of_the_applications_own(dsn: str) -> None:
    import asyncpg

    made = []

    async def connect(*args: Any, **arguments: Any) -> Any:
        made.append(arguments["user"])
        return await asyncpg.connect(*args, **arguments)

    async with open_pool(dsn, size=1, connect=connect) as pool:
        await pool.fetch("SELECT 1")

    assert made == ["postgres"]


async def test_a_connection_that_is_lost_as_it_opens_is_a_failed_attempt(dsn: str) -> None:
    import asyncpg

    doomed = [True, False]

    async def connect(*args: Any, **arguments: Any) -> Any:
        connection = await asyncpg.connect(*args, **arguments)
        if doomed.pop(0):
            connection.terminate()
            while connection._transport.get_extra_info("socket").fileno() != -1:
                await asyncio.sleep(0)
        return connection

    async with open_pool(dsn, size=1, name="doomed", connect=connect) as pool:
        with pytest.raises(ConnectError, match="doomed: the new connection was lost; try again") as caught:
            await pool.fetch("SELECT 1")
        assert caught.value.transient
        assert len(await pool.fetch("SELECT 1")) == 1
        seen = pool.statistics()
        assert (seen.opened, seen.failed, seen.lost, seen.connecting, seen.idle) == (1, 1, 0, 0, 1)


async def test_a_copy_after_the_last_words_of_the_server_leaves_no_unseen_error(
    dsn: str, caplog: pytest.LogCaptureFixture
) -> None:
    words = b"SFATAL\0VFATAL\0C57P01\0Mterminating connection due to administrator command\0\0"

    async def copy(connection: Any) -> None:
        connection._protocol.data_received(b"E" + (4 + len(words)).to_bytes(4, "big") + words)
        await connection.copy_to_table("anything", source=bytearray(b"x"), format="text")

    async with open_pool(dsn, size=1, name="last words") as pool:
        with pytest.raises(ConnectError, match="last words"):
            await pool.run(copy)
        assert len(await pool.fetch("SELECT 1")) == 1
    gc.collect()
    assert [message for message in caplog.messages if "never retrieved" in message] == []


# The end


async def test_the_server_stops_working_for_a_pool_that_closes(
    server: Server, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asyncpg_pool, "CLOSE_SECONDS", 0.6)
    running = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'left' AND state = 'active'"

    async def call(pool: Any) -> None:
        with pytest.raises(ConnectError, match="the pool is closed"):
            await pool.run(lambda connection: connection.execute("SELECT pg_sleep(60)"))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            async with open_pool(dsn, size=1, application_name="left") as pool:
                tasks.start_soon(call, own_wrapper(pool))
                while not server.sql(running):
                    await anyio.lowlevel.checkpoint()
        while server.sql(running):
            await anyio.lowlevel.checkpoint()
        assert server.sql(running) == []


def own_wrapper(pool: Any) -> Any:
    """The pool that `async with` has given, without the object that opened it."""
    return pool


@pytest.mark.slow
async def test_the_server_stops_working_for_a_program_that_was_killed(server: Server, dsn: str) -> None:
    program = (
        "import sys, anyio, preheat\n"
        "async def main():\n"
        "    async with preheat.open_pool(sys.argv[1], application_name='killed') as pool:\n"
        "        await pool.run(lambda connection: connection.execute('SELECT pg_sleep(60)'))\n"
        "anyio.run(main)\n"
    )
    running = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'killed' AND state = 'active'"
    process = subprocess.Popen([sys.executable, "-c", program, dsn])
    with anyio.fail_after(30):
        while not server.sql(running):
            await anyio.lowlevel.checkpoint()
        process.kill()
        process.wait()
        while server.sql(running):
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_no_thread_is_left_behind_by_a_pool(dsn: str, backend: str) -> None:
    """In a program of its own: what other tests have left behind may start threads at any time."""
    program = """if True:
        import sys, threading, anyio, preheat
        async def main():
            async with preheat.open_pool(sys.argv[1], size=1) as pool:
                await pool.fetch("SELECT 1")
                before = set(threading.enumerate())
                async with preheat.open_pool(sys.argv[1], size=1) as other:
                    await other.fetch("SELECT 1")
                while left := set(threading.enumerate()) - before:
                    await anyio.sleep(0.01)
        anyio.run(main, backend=sys.argv[2])
    """
    subprocess.run([sys.executable, "-c", program, dsn, backend], check=True, timeout=60)


async def test_a_warm_up_lends_no_connection_twice_however_slow_the_others_are(dsn: str) -> None:
    """Hot connections are put back after a while, for others to use."""
    async with open_pool(dsn, size=3) as pool:
        inner = own(pool)
        opened = 0

        async def slow_after_the_first(deadline: float) -> Any:
            nonlocal opened
            opened += 1
            if opened > 1:
                await asyncio.sleep(0.2)
            return await real(deadline)

        real, inner._opener = inner._opener, slow_after_the_first  # type: ignore[assignment]
        slow_after_the_first.forget = real.forget  # type: ignore[attr-defined]
        report = await warm(pool, connections=3)

        assert report.ok
        assert len({connection.pid for connection in report.connections}) == 3
        inner._opener = real
