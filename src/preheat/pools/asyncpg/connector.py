"""Opens asyncpg connections, as a DSN says: to one of its hosts, within a budget. Asyncio-flavored."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from weakref import WeakKeyDictionary

import asyncpg

from ...errors import ConnectError, PreheatError, describe
from ..dsn.files import read_password
from ..dsn.parameters import TLS, ConnectionParameters, Host
from ..network.addresses import Addresses, Network, NoMoreAddressesError, Resolver
from ..network.channel_binding import BoundLogIn
from ..network.staggered import first_success
from ..network.tls import NOT_LET_IN, RefusedTLS
from .errors import connect_error

__all__ = ("Connector", "Found", "Verdict")

logger: logging.Logger = logging.getLogger("preheat")

CHECK_SECONDS = 30.0
"""How often a pool that prefers a kind of server asks whether its servers are still of that kind, and looks for one."""

STAGGER_SECONDS = 1.0
"""Until the next host is tried as well; less if the budget is short."""

SPARE_SECONDS = 1.0
"""How long a server of the kind that is preferred may still take when another one could serve."""

LAG_PARTS = 4
"""How often the lag of a standby is asked for in the time by which it may lag. One part of that time passes until the
next look, so a standby may lag by the other parts when it is asked."""

FINAL = ("28", "3D", "42", "0A", "22")
"""Classes of what a server says that its next host would say, too: libpq tries no other host after them either."""


KIND_OF_SERVER = """\
SELECT FROM pg_catalog.generate_series(
    1,
    2 * pg_catalog.pg_is_in_recovery()::int
    + (pg_catalog.current_setting('transaction_read_only') = 'on')::int{more}
)"""
"""A simple query, which a pooler passes on in each mode. asyncpg does not return the rows of such a query, but their
number: 2 for a standby, 1 more if it is read-only, and 4 more if it lags."""

LAGS = """
    + CASE
        WHEN NOT pg_catalog.pg_is_in_recovery() THEN 0
        WHEN EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver WHERE pid IS NOT NULL)
            AND pg_catalog.pg_last_wal_replay_lsn() >= pg_catalog.pg_last_wal_receive_lsn() THEN 0
        WHEN pg_catalog.clock_timestamp() - pg_catalog.pg_last_xact_replay_timestamp()
            <= {seconds} * interval '1 second' THEN 0
        ELSE 4
    END"""
"""A standby that has replayed all it has received, and is still connected, is up to date, however long ago the last
transaction was. Otherwise it lags since the last transaction that it has replayed."""

STILL_LAGS = """\
SELECT FROM pg_catalog.generate_series(1, (
    SELECT (NOT coalesce(pg_catalog.pg_last_wal_replay_lsn() >= later.received, false))::int
    FROM (
        SELECT seen.received, pg_catalog.pg_sleep(0.1)
        FROM (SELECT pg_catalog.pg_last_wal_receive_lsn() AS received OFFSET 0) AS seen
        WHERE EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver WHERE pid IS NOT NULL)
        OFFSET 0
    ) AS later
    UNION ALL SELECT 1
    LIMIT 1
))"""
"""Asked of a standby that seems to lag: no row if it has replayed a moment later what it has received by now. So it is
while the primary is in the midst of a long transaction, such as a bulk load: WAL comes, and no transaction ends."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a server is of the kind that is wanted."""

    kind: str = ""
    """What it is, if it is of another kind; empty if it suits."""
    may_serve: bool = True
    """Whether it may serve while there is no better one."""


@dataclass(frozen=True, slots=True)
class Found:
    """The server that a connection was made to."""

    host: Host
    verdict: Verdict


class Connector:
    """Opens the connections of one pool.

    The host that was good last comes first. A silent host does not use all the time up: the next one is tried as well
    after a while, and the first that answers is used.

    Args:
        name: what errors and logs call the database; by default `host:port/database`.
        connect: in place of `asyncpg.connect`.
        max_lag: seconds by which a standby may lag; None for any time.
    """

    def __init__(
        self,
        parameters: ConnectionParameters,
        *,
        name: str = "",
        connect: Callable[..., Awaitable[Any]] | None = None,
        max_lag: float | None = None,
    ) -> None:
        self.parameters = parameters
        self.name: str = name or parameters.target
        self._driver: Callable[..., Awaitable[Any]] = connect or asyncpg.connect
        self._refused = RefusedTLS()
        self._resolve = Resolver()
        self._last_good: Host | None = None
        self._max_lag = None if self.wants_writes else max_lag
        self._found: WeakKeyDictionary[Any, Found] = WeakKeyDictionary()
        self._has_second = False  # whether it was logged that no preferred server could be used
        if parameters.dropped:
            words = ", ".join(parameters.dropped)
            logger.info("pool %s: these parameters of the DSN change nothing here: %s", self.name, words)

    @property
    def wants_writes(self) -> bool:
        """Whether only a server that takes writes is wanted, so that error 25006 means that another has to be found."""
        return self.parameters.session in ("read-write", "primary")

    @property
    def check_seconds(self) -> float | None:
        """How often to ask a server whether it still suits; None if that is not needed."""
        if self._max_lag is not None:
            return self._max_lag / LAG_PARTS
        return CHECK_SECONDS if self.prefers else None

    @property
    def prefers(self) -> bool:
        """Whether one kind of server is preferred, and another one may serve, too."""
        return self.parameters.session == "prefer-standby"

    def found(self, connection: Any) -> Found | None:
        """The server that a connection was made to; None for a connection of somebody else."""
        return self._found.get(connection)

    async def look(self, connection: Any) -> Verdict:
        """Ask a server whether it still suits: one round trip."""
        kind = await _kind(connection, self._max_lag)
        return self._verdict(is_standby=bool(kind & 2), is_read_only=bool(kind & 1), lags=bool(kind & 4))

    async def __call__(self, deadline: float, **options: Any) -> Any:
        """Open one connection.

        Args:
            deadline: when to give up, on the clock of the event loop; `math.inf` for never.
            options: for `asyncpg.connect`. The `server_settings` among them apply where the DSN says nothing.

        Raises:
            ConnectError: if no host could be used; the driver's own error is the `__cause__`.
            ArgumentError: if the server does not have a parameter of the DSN, or a file that it names cannot be used.

        Cancellation: nothing stays open.
        """
        hosts = self._hosts()
        spare: list[Any] = []  # connections to servers that may serve while there is no better one
        failed: dict[Host, Exception] = {}
        budget = deadline - asyncio.get_running_loop().time()
        stagger = min(STAGGER_SECONDS, budget / (len(hosts) + 1))
        connection: Any = None
        try:
            try:
                async with asyncio.timeout_at(None if deadline == math.inf else deadline) as limit:
                    attempts = [partial(self._attempt, host, spare, failed, options, limit) for host in hosts]
                    connection, errors = await first_success(attempts, stagger, drop=_drop, is_final=_is_final)
            except TimeoutError:
                silence = TimeoutError(f"no answer within {budget:.3g} s")
                errors = [failed.get(host, silence) for host in hosts]
            if self.prefers and (connection is not None or spare):
                silent = TimeoutError("no answer in time")
                self._tell(None if connection is not None else {host: failed.get(host, silent) for host in hosts})
            if connection is None and spare:
                connection = spare.pop(0)
            if connection is None:
                raise self._error(hosts, errors)
            return connection
        finally:
            for each in spare:
                _drop(each)

    def forget(self) -> None:
        """A connection was lost, or its server refused a write: what was learned about the servers may be over."""
        self._refused.forget()

    def _tell(self, failed: dict[Host, Exception] | None) -> None:
        """Log that no preferred server could be used, the first time, and that one can again.

        Args:
            failed: why each could not; None if one could.
        """
        if failed is None:
            if self._has_second:
                logger.info("pool %s: a standby serves again", self.name)
            self._has_second = False
        elif not self._has_second:
            self._has_second = True
            reasons = "; ".join(f"{host}: {_reason(error)}" for host, error in failed.items())
            logger.warning("pool %s: no standby can be used, so the primary serves: %s", self.name, reasons)

    def _hosts(self) -> list[Host]:
        """The hosts in the order in which to try them."""
        hosts = list(self.parameters.hosts)
        if self.parameters.is_default:
            return [host for host in hosts if not host.is_socket or Path(host.socket).exists()]
        if self.parameters.shuffled:
            random.shuffle(hosts)
        elif self._last_good in hosts:
            hosts.remove(self._last_good)
            hosts.insert(0, self._last_good)
        return hosts

    async def _attempt(
        self,
        host: Host,
        spare: list[Any],
        failed: dict[Host, Exception],
        options: dict[str, Any],
        limit: asyncio.Timeout,
    ) -> Any:
        """Try one host; what it fails with is in `failed` even if the other hosts use the time up."""
        seconds = self.parameters.connect_timeout
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                connection = await self._open(host, options)
                try:
                    verdict = await self._look_at(connection)
                except BaseException:
                    _drop(connection)
                    raise
            self._found[connection] = Found(host, verdict)
            if verdict.kind and verdict.may_serve:
                spare.append(connection)
                soon = asyncio.get_running_loop().time() + SPARE_SECONDS
                if not limit.expired():
                    limit.reschedule(min(soon, limit.when() or math.inf))
            elif verdict.kind:
                _drop(connection)
            if verdict.kind:
                raise _UnsuitedError(verdict.kind)
        except Exception as error:
            failed[host] = error
            raise
        self._last_good = host
        return connection

    async def _look_at(self, connection: Any) -> Verdict:
        """Whether the server of a new connection suits.

        From PostgreSQL 14 it has said what it is at log-in. An earlier one, or a pooler in between, is asked. A standby
        is asked for its lag if that matters.
        """
        if self.parameters.session == "any" and self._max_lag is None:
            return Verdict()
        said = connection.get_settings()
        standby = getattr(said, "in_hot_standby", None)
        read_only = getattr(said, "default_transaction_read_only", None)
        if standby is None or read_only is None or (standby == "on" and self._max_lag is not None):
            return await self.look(connection)
        return self._verdict(is_standby=standby == "on", is_read_only="on" in (standby, read_only), lags=False)

    def _verdict(self, *, is_standby: bool, is_read_only: bool, lags: bool) -> Verdict:
        session, kind = self.parameters.session, ""
        if session in ("read-write", "read-only"):
            if is_read_only != (session == "read-only"):
                kind = "read-only" if is_read_only else "read-write"
        elif session != "any" and is_standby != (session != "primary"):
            kind = "a standby" if is_standby else "a primary"
        if not kind and lags:
            kind = f"a standby that lags behind (max_replica_lag is {self._max_lag:g} s)"
        return Verdict(kind, may_serve=not kind or (self.prefers and not lags))

    async def _open(self, host: Host, options: dict[str, Any]) -> Any:
        """Open a connection to one host; raises what asyncpg does."""
        if self._refused.is_remembered(host):
            try:
                return await self._log_in(host, {**options, "ssl": "disable"})
            except Exception as error:
                self._refused.forget(host)
                if getattr(error, "sqlstate", None) != NOT_LET_IN:
                    raise
        connection = await self._log_in(host, options)
        if self.parameters.tls.mode == "prefer":
            self._refused.notice(host, connection)
        return connection

    async def _log_in(self, host: Host, options: dict[str, Any]) -> Any:
        """Log in at the first address of a host that takes a connection; if it is then silent, at others as well."""
        addresses = Addresses(self._resolve, host, shuffled=self.parameters.shuffled)
        attempts = [partial(self._connect, host, options, addresses)] * (1 if host.is_socket else addresses.most)
        connection, errors = await first_success(attempts, STAGGER_SECONDS, drop=_drop, is_final=_is_final)
        if connection is None:
            errors = [error for error in errors if not isinstance(error, NoMoreAddressesError)]
            raise next((error for error in errors if _is_final(error)), errors[-1])
        return connection

    async def _connect(self, host: Host, options: dict[str, Any], addresses: Addresses) -> Any:
        """One call of the driver's, to one host, with nothing left for the driver to look up."""
        parameters, loop = self.parameters, asyncio.get_running_loop()
        tls = parameters.tls
        password: Any = self._own_password(host) or ""  # the driver would look for one in place of None
        password = options.get("password", password)
        log_in = None
        if tls.bound:
            secret: Any = password() if callable(password) else password
            log_in = BoundLogIn(await secret if inspect.isawaitable(secret) else secret)
        network: Network | None = None
        if not host.is_socket:
            addresses.check()
            network = Network(loop, addresses, parameters.keepalive, log_in=log_in)
        arguments: dict[str, Any] = {
            **parameters.gss,
            **options,
            "password": password,
            "server_settings": {**options.get("server_settings", {}), **parameters.settings},
        }
        if tls.system:
            arguments.setdefault("ssl", _system_context(tls))
        try:
            return await self._driver(
                f"postgresql:///?{urlencode({'sslmode': tls.mode, **(tls.words or {})})}",
                host=host.name or host.address,
                port=host.port,
                user=parameters.user,
                database=parameters.database,
                direct_tls=tls.direct,
                target_session_attrs="any",
                loop=network or loop,
                timeout=None,
                **arguments,
            )
        except BaseException as error:
            if network is not None:
                network.abort()
            if not isinstance(error, Exception) or log_in is None or log_in.error is None:
                raise
            remedy = (
                "connect to PostgreSQL itself, which has to end TLS and to log in by scram-sha-256, or leave "
                "channel_binding out and use sslmode=verify-full"
            )
            raise ConnectError(self.name, str(log_in.error), remedy) from error

    def _own_password(self, host: Host) -> str | None:
        parameters = self.parameters
        if parameters.password is not None:
            return parameters.password
        name = host.name or host.address
        return read_password(parameters.passfile, name, host.port, parameters.database, parameters.user)

    def _error(self, hosts: Sequence[Host], errors: Sequence[Exception]) -> Exception:
        """The error that a caller should see if no host could be used."""
        if all(isinstance(error, _UnsuitedError) for error in errors):
            kinds = ", ".join(f"{host} is {error}" for host, error in zip(hosts, errors, strict=False))
            remedy = "name another host in the DSN, or change target_session_attrs"
            if any("max_replica_lag" in str(error) for error in errors):
                remedy = "name the primary in the DSN, too, or let standbys lag more with max_replica_lag"
            return ConnectError(self.name, f"no host is {self.parameters.session}: {kinds}", remedy, transient=True)
        telling = next((error for error in errors if _is_final(error)), None)
        telling = telling or next(error for error in reversed(errors) if not isinstance(error, _UnsuitedError))
        told = None if isinstance(telling, PreheatError) else connect_error(telling, self.name, self.parameters)
        if told is None:
            return telling
        told.__cause__ = telling
        if isinstance(told, ConnectError) and len(hosts) > 1 and len(errors) == len(hosts):
            reasons = "; ".join(f"{host}: {_reason(error)}" for host, error in zip(hosts, errors, strict=True))
            told = ConnectError(self.name, reasons, told.remedy, sqlstate=told.sqlstate, transient=told.transient)
            told.__cause__ = telling
        return told


class _UnsuitedError(Exception):
    """A server is not of the kind that `target_session_attrs` asks for."""


def _reason(error: Exception) -> str:
    return f"is {error}" if isinstance(error, _UnsuitedError) else describe(error)


def _is_final(error: Exception) -> bool:
    state = getattr(error, "sqlstate", None) if isinstance(error, asyncpg.PostgresError) else None
    return isinstance(error, (PreheatError, asyncpg.ClientConfigurationError)) or (
        state is not None and state.startswith(FINAL)
    )


async def _kind(connection: Any, max_lag: float | None) -> int:
    """What a server is: see :data:`KIND_OF_SERVER`."""
    more = "" if max_lag is None else LAGS.format(seconds=max_lag * (LAG_PARTS - 1) / LAG_PARTS)
    kind = await _rows(connection, KIND_OF_SERVER.format(more=more))
    if kind & 4 and await _rows(connection, STILL_LAGS) == 0:
        kind -= 4
    return kind


async def _rows(connection: Any, query: str) -> int:
    """How many rows a simple query has."""
    return int((await connection.execute(query)).split()[-1])


def _system_context(tls: TLS) -> ssl.SSLContext:
    """TLS with the authorities of this machine, for `sslrootcert=system`."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["postgresql"])
    words = tls.words or {}
    if "sslcert" in words:
        context.load_cert_chain(words["sslcert"], words.get("sslkey"), words.get("sslpassword", ""))
    if "sslcrl" in words:
        context.load_verify_locations(words["sslcrl"])
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN
    for word, attribute in (("min", "minimum_version"), ("max", "maximum_version")):
        if version := words.get(f"ssl_{word}_protocol_version"):
            setattr(context, attribute, ssl.TLSVersion[version.replace(".", "_")])
    return context


def _drop(connection: Any) -> None:
    connection.terminate()
