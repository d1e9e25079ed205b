"""What `preheat doctor` says about a database, from what was found in it. Pure functions."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from ..pools.dsn.parameters import ConnectionParameters
from ..storage.identifiers import quoted

__all__ = ("Check", "Needs", "Status", "check_database", "check_limits", "check_network", "check_session")

Status: TypeAlias = Literal["green", "yellow", "red"]

TESTED_SERVER = 150000
"""The earliest server version that preheat is tested with."""
SOUND_PGVECTOR = (0, 8, 3)
"""Earlier versions have bugs that corrupt HNSW indexes."""
LEAST_PGVECTOR = (0, 5)
NAT_SECONDS = 240
"""The shortest time after which a common load balancer drops a silent connection: Azure's. AWS has 350 s."""
SHORT_STATEMENT_SECONDS = 1.0
"""A first search with a cold cache may take as long."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    status: Status
    """`green`: right; `yellow`: works, and may hurt later; `red`: does not work."""
    message: str
    remedy: str | None = None
    """What to do, in a sentence."""
    sql: tuple[str, ...] = ()
    """Statements that do it, to be run by an administrator in this database."""
    dsn: str | None = None
    """Parameters of the DSN that do it, such as `sslmode=require`."""

    def as_dict(self) -> dict[str, Any]:
        """The check for JSON."""
        return {
            "name": self.name,
            "status": self.status,
            "message": self.message,
            "remedy": self.remedy,
            "sql": list(self.sql),
            "dsn": self.dsn,
        }


@dataclass(frozen=True, slots=True)
class Needs:
    """What the application needs."""

    size: int = 10
    """Connections of each pool."""
    processes: int = 1
    """Processes that each have a pool."""
    writes: bool = True
    """Whether it stores chunks; otherwise it only searches."""

    @property
    def connections(self) -> int:
        """Connections of all processes."""
        return self.size * self.processes


def check_network(
    parameters: ConnectionParameters, *, is_socket: bool, is_encrypted: bool, refuses_tls: bool, pooler: str | None
) -> Iterator[Check]:
    """TLS, keep-alive and the pooler.

    Args:
        pooler: the mode of the pooler in between, `"session"` or `"transaction"`; None if there is none.
    """
    mode = parameters.tls.mode
    if is_socket or all(_is_local(host.address or host.name) for host in parameters.hosts):
        yield Check("TLS", "green", "the connection does not leave this machine")
    elif not is_encrypted:
        remedy = "switch TLS on at the server (ssl = on)" if refuses_tls else "add the parameter to the DSN"
        yield Check(
            "TLS", "yellow", "passwords and texts cross the network in the clear", remedy, dsn="sslmode=require"
        )
    elif mode != "verify-full":
        yield Check(
            "TLS",
            "yellow",
            f"the connection is encrypted, but sslmode={mode} does not check that the server is the right one",
            "check its certificate; name the authority that signed it, or sslrootcert=system for a public one",
            dsn="sslmode=verify-full&sslrootcert=system",
        )
    else:
        yield Check("TLS", "green", "the connection is encrypted, and the certificate of the server is checked")

    keepalive = parameters.keepalive
    if is_socket:
        yield Check("keep-alive", "green", "a Unix socket needs none")
    elif not keepalive.enabled or not 0 < keepalive.idle < NAT_SECONDS:
        said = f"only after {keepalive.idle} s of silence" if keepalive.enabled else "never"
        yield Check(
            "keep-alive",
            "yellow",
            f"an idle connection is checked {said}; load balancers and NAT drop silent ones after {NAT_SECONDS} s "
            "(Azure) or 350 s (AWS), and tell nobody",
            "let the kernel check earlier",
            dsn="keepalives=1&keepalives_idle=60",
        )
    else:
        yield Check("keep-alive", "green", f"an idle connection is checked after {keepalive.idle} s of silence")

    if pooler is None:
        yield Check("pooler", "green", "none in between")
    elif pooler == "session":
        yield Check("pooler", "green", "one in session mode: a connection keeps its session, and stays warm")
    else:
        yield Check(
            "pooler",
            "yellow",
            "one in transaction mode: prepared statements do not last, and a warm-up reaches only some sessions",
            "name the host and the port of the server itself in the DSN, or run the pooler in session mode "
            "(pool_mode = session of PgBouncer)",
        )


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_session(row: Any, needs: Needs) -> Iterator[Check]:
    """The server, and the settings of the session.

    Args:
        row: of :func:`preheat.measure.doctor_sql.server`.
    """
    number = row["version_number"]
    yield Check(
        "server",
        "green" if number >= TESTED_SERVER else "yellow",
        f"PostgreSQL {row['version']}",
        None if number >= TESTED_SERVER else "upgrade to PostgreSQL 15 or later, with which preheat is tested",
    )
    here = f"ALTER ROLE {quoted(row['role'])} IN DATABASE {quoted(row['database'])} SET"
    if not needs.writes:
        yield Check("writes", "green", "none are needed")
    elif row["in_recovery"]:
        yield Check(
            "writes",
            "red",
            "the server is a standby, or is recovering, and takes no writes",
            "connect to the primary: name all hosts in the DSN, or give --read-only if nothing is to be stored",
            dsn="target_session_attrs=read-write",
        )
    elif row["read_only"]:
        yield Check(
            "writes",
            "red",
            "transactions are read-only by default (default_transaction_read_only)",
            "allow writes, or give --read-only if nothing is to be stored",
            (f"BEGIN READ WRITE; {here} default_transaction_read_only = off; COMMIT",),
        )
    else:
        yield Check("writes", "green", "the server takes writes")

    if row["idle_session_seconds"]:
        yield Check(
            "idle sessions",
            "yellow",
            f"the server ends a session after {row['idle_session_seconds']:g} s without use (idle_session_timeout), so "
            "a warm pool gets cold",
            "switch that off for this role, or open the pool with a shorter max_idle and warm it again",
            (f"{here} idle_session_timeout = 0",),
        )
    else:
        yield Check("idle sessions", "green", "the server ends none")
    limit = row["statement_seconds"]
    if 0 < limit < SHORT_STATEMENT_SECONDS:
        yield Check(
            "statement time",
            "yellow",
            f"a statement may take {1000 * limit:g} ms (statement_timeout), and a first search on a cold server longer",
            "give it longer; a limit for each search is the argument statement_timeout of the pool",
            (f"{here} statement_timeout = '60s'",),
        )
    else:
        said = f"a statement may take {limit:g} s" if limit else "the server sets no limit"
        yield Check("statement time", "green", said)


def check_limits(row: Any, needs: Needs, pooler: str | None) -> Iterator[Check]:
    """Whether the server has room for the connections of all processes."""
    wanted = needs.connections
    pools = f"{needs.processes} x {needs.size} = {wanted} connections"
    if pooler is not None:
        yield Check("connections", "green", f"{pools}, which a pooler shares out; its own limits cannot be seen here")
        return
    most = row["max_connections"] - row["reserved"]
    role, database = quoted(row["role"]), quoted(row["database"])
    for limit, what, sql in (
        (row["role_limit"], f"the role {row['role']!r}", f"ALTER ROLE {role} CONNECTION LIMIT -1"),
        (row["database_limit"], f"the database {row['database']!r}", f"ALTER DATABASE {database} CONNECTION LIMIT -1"),
    ):
        if 0 <= limit < wanted and not row["is_superuser"]:
            yield Check(
                "connections",
                "red",
                f"{pools}, and {what} may have {limit}",
                f"lift the limit, or give the pools together at most {limit}",
                (sql,),
            )
            return
    others = max(0, row["used"] - row["own"])
    if wanted > most:
        size = most // needs.processes
        small = f"give each pool size={size} (--size {size})" if size else f"run at most {most} processes"
        yield Check(
            "connections",
            "red",
            f"{pools}, and the server has {most} (max_connections without those that are reserved)",
            f"{small}, put a pooler in between, or raise max_connections and restart the server",
            (f"ALTER SYSTEM SET max_connections = {wanted + row['reserved'] + others}",),
        )
    elif wanted + others > most:
        yield Check(
            "connections",
            "yellow",
            f"{pools}; the server has {most}, of which others use {others} now",
            f"give the pools together at most {max(1, most - others)}, or raise max_connections and restart the server",
            (f"ALTER SYSTEM SET max_connections = {wanted + row['reserved'] + others}",),
        )
    else:
        yield Check("connections", "green", f"{pools}; the server has {most}, of which others use {others} now")


def check_database(row: Any, needs: Needs) -> Iterator[Check]:
    """The extension, and the rights on schemas.

    Args:
        row: of :func:`preheat.measure.doctor_sql.server`.
    """
    version, available = row["extension_version"], row["extension_available"]
    install = "install the pgvector package of your system on the server"
    to = f"TO {quoted(row['role'])}"
    if version is None and row["may_add_extension"] and needs.writes:
        yield Check("pgvector", "green", f"version {available} is added with the first collection")
    elif version is None:
        yield Check(
            "pgvector",
            "red",
            f"the database {row['database']!r} does not have it",
            "let an administrator add it" if available else f"{install}, and then add it",
            ("CREATE EXTENSION vector",),
        )
    elif not row["extension_usage"] and row["extension_schema"] != row["schema"]:
        yield Check(
            "pgvector",
            "red",
            f"the role {row['role']!r} may not use its schema, {row['extension_schema']!r}",
            "let an administrator grant it",
            (f"GRANT USAGE ON SCHEMA {quoted(row['extension_schema'])} {to}",),
        )
    elif _numbers(version) < SOUND_PGVECTOR or (available and _numbers(version) < _numbers(available)):
        is_newer = available is not None and _numbers(available) > _numbers(version)
        why = "it has bugs that damage HNSW indexes" if _numbers(version) < SOUND_PGVECTOR else "a later one is there"
        yield Check(
            "pgvector",
            "red" if _numbers(version) < LEAST_PGVECTOR else "yellow",
            f"version {version}: {why}" + (f" ({available})" if is_newer else ""),
            "update it" if is_newer else f"{install} in a later version, and update it",
            ("ALTER EXTENSION vector UPDATE",),
        )
    else:
        yield Check("pgvector", "green", f"version {version}")

    lacking = [right for right, has in (("USAGE", row["usage"]), ("CREATE", row["creates"])) if not has]
    if not needs.writes:
        lacking = [right for right in lacking if right != "CREATE"]
    name = row["schema"]
    if not row["schema_exists"]:
        yield Check(
            "schema",
            "red",
            f"there is no schema {name!r}",
            "create it, or name another one with --schema",
            (f"CREATE SCHEMA {quoted(name)}", f"GRANT USAGE, CREATE ON SCHEMA {quoted(name)} {to}"),
        )
    elif lacking:
        yield Check(
            "schema",
            "red",
            f"the role {row['role']!r} lacks {' and '.join(lacking)} on the schema {name!r}",
            "let an administrator grant it" + (", or give --read-only if nothing is to be stored" * needs.writes),
            (f"GRANT {', '.join(lacking)} ON SCHEMA {quoted(name)} {to}",),
        )
    else:
        yield Check("schema", "green", f"{name!r} can be used" + (" and written to" if needs.writes else ""))
    if needs.writes and not row["temporary"]:
        yield Check(
            "temporary tables",
            "red",
            f"the role {row['role']!r} may not create them, which storing large batches does",
            "let an administrator grant it, or give --read-only if nothing is to be stored",
            (f"GRANT TEMPORARY ON DATABASE {quoted(row['database'])} {to}",),
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
