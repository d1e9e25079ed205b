"""Databases that are broken in one way each: the doctor sees it, and its remedy makes it right."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import anyio
import pytest
from tests.support.pgbouncer import pgbouncer
from tests.support.server import PASSWORD, Server

from preheat import Chunk, VectorStorage
from preheat.measure import Check, Diagnosis, Needs, diagnose, doctor
from preheat.measure.checks import check_database, check_network, check_session
from preheat.pools.dsn.parameters import connection_parameters
from preheat.testing.network import FaultyNetwork

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])

TABLE, REGISTRY = "public.preheat_papers", "public.preheat_collections"
_numbers = itertools.count()


@dataclass(frozen=True)
class Case:
    """One way in which a database is broken."""

    check: str
    """The name of the check that sees it."""
    status: str
    script: str
    """What breaks it; {db} and {role} are filled in."""


BROKEN = {
    "no extension": Case("pgvector", "red", f"DROP TABLE {TABLE}; DELETE FROM {REGISTRY}; DROP EXTENSION vector;"),
    "old extension": Case(
        "pgvector", "yellow", "UPDATE pg_extension SET extversion = '0.8.4' WHERE extname = 'vector';"
    ),
    "hidden extension": Case("pgvector", "red", "CREATE SCHEMA hidden; ALTER EXTENSION vector SET SCHEMA hidden;"),
    "no right to create": Case("schema", "red", "REVOKE CREATE ON SCHEMA public FROM {role};"),
    "no right to use": Case("schema", "red", "REVOKE USAGE ON SCHEMA public FROM public, {role};"),
    "no right to read": Case("rights", "red", f"REVOKE SELECT ON {TABLE} FROM {{role}};"),
    "no right to list": Case("rights", "red", f"REVOKE SELECT, UPDATE ON {REGISTRY} FROM {{role}};"),
    "no temporary tables": Case("temporary tables", "red", "REVOKE TEMPORARY ON DATABASE {db} FROM public;"),
    "no index of vectors": Case("collection papers", "red", 'DROP INDEX "preheat_papers.embedding";'),
    "no index of words": Case("collection papers", "yellow", 'DROP INDEX "preheat_papers.words";'),
    "invalid index": Case(
        "collection papers",
        "red",
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = '\"preheat_papers.embedding\"'::regclass;",
    ),
    "never analyzed": Case(
        "collection papers", "yellow", f"DELETE FROM pg_statistic WHERE starelid = '{TABLE}'::regclass;"
    ),
    "read-only": Case("writes", "red", "ALTER DATABASE {db} SET default_transaction_read_only = on;"),
    "few for the role": Case("connections", "red", "ALTER ROLE {role} CONNECTION LIMIT 5;"),
    "few for the database": Case("connections", "red", "ALTER DATABASE {db} CONNECTION LIMIT 5;"),
    "sessions end": Case("idle sessions", "yellow", "ALTER ROLE {role} SET idle_session_timeout = '90s';"),
    "statements end": Case("statement time", "yellow", "ALTER DATABASE {db} SET statement_timeout = '500ms';"),
    "no right to connect": Case("connection", "red", "REVOKE CONNECT ON DATABASE {db} FROM public;"),
}


@pytest.fixture(scope="module")
def sound(server: Server) -> str:
    """The name of a database with a collection, in which nothing is wrong."""
    server.sql("CREATE DATABASE sound")
    server.sql("CREATE EXTENSION vector;", "sound")

    async def fill() -> None:
        async with VectorStorage(server.dsn("sound"), "papers", 3) as storage:
            await storage.add([Chunk(text=f"text {number}", embedding=[1.0, number, 2.0]) for number in range(20)])

    with ThreadPoolExecutor(1) as elsewhere:
        elsewhere.submit(anyio.run, fill).result()
    server.sql(f"ANALYZE {TABLE};", "sound")
    return "sound"


@pytest.fixture
def patient(server: Server, sound: str) -> Iterator[tuple[str, str]]:
    """The names of a database and of a role that has just the rights it needs."""
    database, role = f"patient_{next(_numbers)}", f"patient_{next(_numbers)}"
    server.sql(f"CREATE DATABASE {database} TEMPLATE {sound}")
    rights = "SELECT, INSERT, UPDATE, DELETE ON"
    server.role(role, database, "USAGE, CREATE ON SCHEMA public", f"{rights} {TABLE}", f"{rights} {REGISTRY}")
    yield database, role
    server.sql(f"DROP DATABASE {database} WITH (FORCE)")
    server.sql(f"DROP ROLE {role}")


def wrong(diagnosis: Diagnosis) -> list[Check]:
    assert PASSWORD not in str(diagnosis.as_dict())
    return [check for check in diagnosis.checks if check.status != "green"]


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=name, marks=() if name == "no right to read" else pytest.mark.slow)
        for name, case in BROKEN.items()
    ],
)
async def test_a_broken_database_has_its_own_line_and_its_remedy_makes_it_green(
    server: Server, patient: tuple[str, str], case: Case
) -> None:
    database, role = patient
    dsn = server.dsn(database, user=role)
    assert wrong(await diagnose(dsn)) == []
    if case.check == "idle sessions" and server.sql("SHOW server_version_num")[0][0] < "140000":
        pytest.skip("PostgreSQL 14 has introduced idle_session_timeout")
    server.sql(case.script.format(db=database, role=role), "postgres" if "CONNECT" in case.script else database)

    diagnosis = await diagnose(dsn)
    [check] = wrong(diagnosis)
    assert (check.name, check.status) == (case.check, case.status)
    assert diagnosis.exit_code == {"yellow": 1, "red": 2}[case.status]
    assert check.remedy is not None
    for statement in check.sql:
        server.sql(f"{statement};", database)
    assert wrong(await diagnose(dsn)) == []


@pytest.mark.slow
async def test_a_database_that_does_not_exist_can_be_created_as_printed(
    server: Server, patient: tuple[str, str]
) -> None:
    database = f"later_{next(_numbers)}"
    [check] = wrong(await diagnose(server.dsn(database)))
    assert (check.name, check.status) == ("connection", "red")
    [statement] = check.sql
    server.sql(statement)
    assert wrong(await diagnose(server.dsn(database))) == []
    server.sql(f"DROP DATABASE {database}")


@pytest.mark.slow
async def test_more_connections_than_the_server_has_are_red_and_the_size_in_the_remedy_is_green(
    server: Server, dsn: str
) -> None:
    diagnosis = await diagnose(dsn, needs=Needs(size=20, processes=4))
    [check] = [check for check in wrong(diagnosis) if check.name == "connections"]
    assert check.status == "red"
    assert "80 connections, and the server has 57" in check.message
    assert "--size 14" in str(check.remedy)
    assert check.sql[0].startswith("ALTER SYSTEM SET max_connections = ")
    after = await diagnose(dsn, needs=Needs(size=10, processes=4))
    assert [check for check in wrong(after) if check.name == "connections"] == []


@pytest.mark.slow
async def test_parameters_of_the_dsn_are_checked_and_those_in_the_remedy_are_green(
    server: Server, patient: tuple[str, str]
) -> None:
    database, role = patient
    dsn = server.dsn(database, user=role)
    [check] = wrong(await diagnose(f"{dsn}&keepalives=0"))
    assert (check.name, check.status) == ("keep-alive", "yellow")
    assert wrong(await diagnose(f"{dsn}&{check.dsn}")) == []


@pytest.mark.slow
@pytest.mark.parametrize(("mode", "status"), [("transaction", "yellow"), ("session", "green")])
async def test_the_mode_of_a_pooler_is_told(server: Server, dsn: str, mode: str, status: str) -> None:
    with pgbouncer(server, mode) as through:
        diagnosis = await diagnose(through)
    [check] = [check for check in diagnosis.checks if check.name == "pooler"]
    assert check.status == status
    assert f"one in {mode} mode" in check.message


@pytest.mark.slow
async def test_who_only_searches_needs_fewer_rights(server: Server, patient: tuple[str, str]) -> None:
    database, role = patient
    server.sql(
        f"REVOKE CREATE ON SCHEMA public FROM {role}; REVOKE INSERT, UPDATE, DELETE ON {TABLE}, {REGISTRY} FROM {role};"
        f"ALTER DATABASE {database} SET default_transaction_read_only = on;",
        database,
    )
    dsn = server.dsn(database, user=role)
    assert {check.name for check in wrong(await diagnose(dsn))} == {"writes", "schema", "rights"}
    assert wrong(await diagnose(dsn, needs=Needs(writes=False))) == []


@pytest.mark.slow
async def test_collections_are_told_by_name(server: Server, patient: tuple[str, str]) -> None:
    database, role = patient
    dsn = server.dsn(database, user=role)
    [check] = wrong(await diagnose(dsn, collection="nothing"))
    assert (check.name, check.status) == ("collection nothing", "red")
    assert "there are papers" in check.message
    assert wrong(await diagnose(dsn, collection="papers")) == []
    server.sql(f"DROP TABLE {TABLE};", database)
    [check] = wrong(await diagnose(dsn))
    assert "is gone" in check.message
    [check] = wrong(await diagnose(dsn, schema="elsewhere"))
    assert check.sql[0] == 'CREATE SCHEMA "elsewhere"'


async def test_a_server_that_is_silent_or_down_is_red_within_the_deadline(server: Server, dsn: str) -> None:
    with FaultyNetwork(dsn) as network:
        network.mute()
        [check] = wrong(await diagnose(network.dsn, timeout=0.3))
        assert check.status == "red"
        assert check.name in ("connection", "deadline")
        network.refuse()
        [check] = wrong(await diagnose(network.dsn))
        assert (check.name, check.status) == ("connection", "red")
    [check] = wrong(await diagnose(server.dsn("tests", password="s3cret/wrong")))
    assert (check.name, check.status) == ("connection", "red")
    assert "check the user and the password" in str(check.remedy)
    [check] = wrong(await diagnose("mysql://somebody:s3cret@host/database"))
    assert (check.name, check.status) == ("DSN", "red")
    assert "s3cret" not in check.message


async def test_waiting_goes_on_until_the_database_is_there(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultyNetwork(dsn) as network:
        network.refuse()

        async def back_after_a_while() -> None:
            pauses.append(1)
            if len(pauses) == 2:
                network.heal()

        pauses: list[int] = []
        monkeypatch.setattr(doctor, "_pause", back_after_a_while)
        diagnosis = await diagnose(network.dsn, wait=True, timeout=30)
        assert len(pauses) == 2
        assert [check.name for check in diagnosis.checks][:2] == ["packages", "connection"]
        assert diagnosis.checks[1].status == "green"

        network.refuse()
        monkeypatch.setattr(doctor, "_pause", anyio.sleep_forever)
        [check] = wrong(await diagnose(network.dsn, wait=True, timeout=0.3))
        assert (check.name, check.status) == ("connection", "red")
        [check] = wrong(await diagnose(f"{network.dsn}&connect_timeout=2", wait=False))
        assert (check.name, check.status) == ("connection", "red")


async def test_missing_extras_are_red(dsn: str) -> None:
    diagnosis = await diagnose(dsn, extras=["trio", "local", "no-such-extra"])
    [check] = [check for check in wrong(diagnosis) if check.name == "packages"]
    assert check.status == "red"
    assert "no extra 'no-such-extra'" in check.message


def statuses(checks: Iterator[Check]) -> dict[str, str]:
    return {check.name: check.status for check in checks}


async def test_tls_is_wanted_where_the_network_is_not_this_machine() -> None:
    def tls(dsn: str, **seen: bool) -> str:
        seen = {"is_socket": False, "is_encrypted": False, "refuses_tls": False, **seen}
        return statuses(check_network(connection_parameters(dsn), pooler=None, **seen))["TLS"]

    assert tls("postgresql://db.example.org/x") == "yellow"
    assert tls("postgresql://db.example.org/x", refuses_tls=True) == "yellow"
    assert tls("postgresql://db.example.org/x?sslmode=require", is_encrypted=True) == "yellow"
    assert tls("postgresql://db.example.org/x?sslmode=verify-full", is_encrypted=True) == "green"
    assert tls("postgresql://localhost/x") == "green"
    assert tls("postgresql://[::1]/x") == "green"
    assert tls("postgresql:///x", is_socket=True) == "green"


async def test_old_versions_and_a_standby_are_told() -> None:
    row = {
        "version": "14.2",
        "version_number": 140002,
        "role": "app",
        "database": "shop",
        "in_recovery": True,
        "read_only": False,
        "idle_session_seconds": None,
        "statement_seconds": 0.0,
        "extension_version": "0.4.4",
        "extension_available": "0.8.2",
        "may_add_extension": False,
        "extension_schema": "public",
        "extension_usage": True,
        "schema": "public",
        "schema_exists": True,
        "usage": True,
        "creates": True,
        "temporary": True,
    }
    assert statuses(check_session(row, Needs())) == {
        "server": "yellow",
        "writes": "red",
        "idle sessions": "green",
        "statement time": "green",
    }
    assert statuses(check_session(row, Needs(writes=False)))["writes"] == "green"
    assert statuses(check_database(row, Needs()))["pgvector"] == "red"
    assert statuses(check_database({**row, "extension_version": "0.8.2"}, Needs()))["pgvector"] == "yellow"
    assert statuses(check_database({**row, "extension_version": "0.8.5"}, Needs()))["pgvector"] == "green"
