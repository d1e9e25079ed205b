"""Check a database, and say what to do: `preheat doctor`."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import anyio

from ..errors import AccessError, ConnectError, PreheatError, describe
from ..pools import open_pool
from ..pools.dsn.parameters import ConnectionParameters, connection_parameters
from ..storage.identifiers import quoted
from . import doctor_sql as sql
from .checks import Check, Needs, Status, check_database, check_limits, check_network, check_session
from .collections import check_collections
from .pooler import pooler_mode
from .wire import Wire

__all__ = ("Diagnosis", "diagnose")

WAIT_SECONDS = 0.5
"""Between two attempts to reach a database that is down."""
RANKS: dict[Status, int] = {"green": 0, "yellow": 1, "red": 2}


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What was checked."""

    target: str
    """`host:port/database`."""
    checks: tuple[Check, ...]

    @property
    def status(self) -> Status:
        """The worst of all checks."""
        return max((check.status for check in self.checks), key=RANKS.__getitem__)

    @property
    def exit_code(self) -> int:
        """0 if all is green, 1 if something is yellow, 2 if something is red."""
        return RANKS[self.status]

    def as_dict(self) -> dict[str, Any]:
        """The diagnosis for JSON."""
        return {
            "target": self.target,
            "status": self.status,
            "checks": [check.as_dict() for check in self.checks],
        }


@dataclass
class _Findings:
    """The checks so far."""

    target: str = ""
    checks: list[Check] = field(default_factory=list)
    waiting: Check | None = None
    """Why there is no connection yet."""


async def diagnose(
    dsn: object,
    *,
    needs: Needs | None = None,
    schema: str | None = None,
    collection: str | None = None,
    extras: Sequence[str] = (),
    timeout: float = 10.0,
    wait: bool = False,
    bounds: dict[str, Any] | None = None,
) -> Diagnosis:
    """Check the way to a database, the server, the rights of the role, and the collections. Nothing is changed.

    Args:
        dsn: of the database.
        needs: what the application needs; by default a pool of 10 connections that also writes.
        schema: the schema of the collections; by default the search path decides.
        collection: the one collection to check; by default all.
        extras: extras of preheat that have to be installed.
        timeout: seconds for everything. What takes longer is a red check.
        wait: whether to try again until the time is over, if the database cannot be reached for now.
        bounds: further time limits, as arguments of :func:`preheat.open_pool`.

    Returns:
        The checks. An error of the database is a red check; it is not raised.

    Cancellation: the connections are closed.
    """
    findings = _Findings(checks=list(check_packages(extras)))
    with anyio.move_on_after(timeout) as scope:
        try:
            asked = (needs or Needs(), schema, collection, timeout, bounds or {})
            while not await _look(dsn, findings, *asked, wait=wait):
                await _pause()
        except PreheatError as error:
            findings.checks.append(_failed(error))
    if scope.cancelled_caught:
        findings.checks.append(
            findings.waiting
            or Check(
                "deadline",
                "red",
                f"the database has not answered everything within {timeout:g} s",
                "try again when it is less busy, or give it longer (--timeout)",
            )
        )
    return Diagnosis(findings.target, tuple(findings.checks))


async def _look(
    dsn: object,
    findings: _Findings,
    needs: Needs,
    schema: str | None,
    collection: str | None,
    timeout: float,
    bounds: dict[str, Any],
    *,
    wait: bool,
) -> bool:
    """Add to the findings; false if there is no connection yet."""
    from ..pools.asyncpg.watched import watching

    parameters = connection_parameters(dsn)
    findings.target = parameters.target
    wires: list[Wire] = []

    def watch() -> Wire:
        wires.append(Wire())
        return wires[-1]

    limit = min(timeout, bounds.get("connect_timeout") or parameters.seconds)
    options: dict[str, Any] = {**bounds, "connect_timeout": limit, "prepare": False, "connect": watching(watch)}
    async with open_pool(dsn, size=2, **options) as pool:
        try:
            pooler = await pooler_mode(pool)
        except (ConnectError, AccessError) as error:
            findings.waiting = _unreachable(error, parameters)
            if wait and getattr(error, "transient", False):
                return False
            findings.checks.append(findings.waiting)
            return True
        findings.waiting = None
        findings.checks.append(Check("connection", "green", f"to {parameters.target} as {parameters.user!r}"))
        wire = wires[0]
        findings.checks += check_network(
            parameters,
            is_socket=wire.is_socket,
            is_encrypted=wire.is_encrypted,
            refuses_tls=any(turn.is_refused_tls for turn in wire.turns),
            pooler=pooler,
        )
        (row,) = await pool.fetch(sql.server(), schema)
        server = {**row, "own": pool_connections(wires)}
        findings.checks += check_session(server, needs)
        findings.checks += check_limits(server, needs, pooler)
        findings.checks += check_database(server, needs)
        if server["usage"] and server["schema_exists"]:
            async for check in check_collections(pool, server, needs, schema, collection):
                findings.checks.append(check)
    return True


async def _pause() -> None:
    await anyio.sleep(WAIT_SECONDS)


def pool_connections(wires: Sequence[Wire]) -> int:
    """How many connections the doctor itself has."""
    return sum(wire.key is not None for wire in wires)


def _unreachable(error: ConnectError | AccessError, parameters: ConnectionParameters) -> Check:
    """The red check for a connection that could not be made."""
    sql: tuple[str, ...] = ()
    database, user = quoted(parameters.database), quoted(parameters.user)
    if error.sqlstate == "3D000":
        sql = (f"CREATE DATABASE {database}",)
    elif error.sqlstate == "42501":
        sql = (f"GRANT CONNECT ON DATABASE {database} TO {user}",)
    return Check("connection", "red", f"none to {parameters.target}: {error.reason}", error.remedy, sql)


def _failed(error: PreheatError) -> Check:
    """The red check for an error that ended the checks."""
    reason, remedy = getattr(error, "reason", None), getattr(error, "remedy", None)
    if isinstance(error, ConnectError):
        return Check("connection", "red", f"lost to {error.target}: {error.reason}", error.remedy)
    if reason and remedy:
        return Check("database", "red", str(reason), str(remedy))
    message, _, rest = str(error).partition("; ")
    return Check(
        "DSN" if isinstance(error, ValueError) else "database", "red", message or describe(error), rest or None
    )


def check_packages(extras: Sequence[str]) -> Iterator[Check]:
    """The versions of preheat and its driver, and extras that have to be there."""
    own = f"preheat {importlib.metadata.version('preheat')}, asyncpg {importlib.metadata.version('asyncpg')}"
    known = {_plain(name): name for name in importlib.metadata.metadata("preheat").get_all("Provides-Extra") or ()}
    for extra in extras:
        if _plain(extra) not in known:
            yield Check(
                "packages", "red", f"preheat has no extra {extra!r}", f"choose from {', '.join(sorted(known.values()))}"
            )
        elif lacking := sorted(_lacking(extra)):
            yield Check(
                "packages",
                "red",
                f"the extra {extra!r} is not complete: {', '.join(lacking)}",
                f"run: pip install 'preheat[{extra}]'",
            )
    there = sorted(name for plain, name in known.items() if plain != "all" and not list(_lacking(plain)))
    yield Check("packages", "green", f"{own}; extras: {', '.join(there) or 'none'}")


def _lacking(extra: str) -> Iterator[str]:
    """The packages of an extra that are not installed."""
    for requirement in importlib.metadata.requires("preheat") or ():
        package, _, marker = requirement.partition(";")
        if _plain(extra) not in map(_plain, re.findall(r"extra == ['\"]([^'\"]+)['\"]", marker)):
            continue
        name = re.split(r"[^A-Za-z0-9._-]", package.strip(), maxsplit=1)[0]
        if _plain(name) == "preheat" or not _applies(marker):
            continue
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield name


def _applies(marker: str) -> bool:
    """Whether a condition on the version of Python holds; other conditions are not looked at."""
    limit = re.search(r"python_version < ['\"](\d+)\.(\d+)['\"]", marker)
    return limit is None or sys.version_info[:2] < (int(limit[1]), int(limit[2]))


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
