"""Opens asyncpg connections, as a DSN says: to one of its hosts, within a budget. Asyncio-flavored."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import random
import ssl
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import asyncpg

from ...errors import ConnectError, PreheatError, describe
from ..dsn.files import read_password
from ..dsn.parameters import TLS, ConnectionParameters, Host
from ..network.addresses import Network, Resolver
from ..network.channel_binding import BoundLogIn
from ..network.staggered import first_success
from ..network.tls import NOT_LET_IN, RefusedTLS
from .errors import connect_error

__all__ = ("Connector",)

logger: logging.Logger = logging.getLogger("preheat")

STAGGER_SECONDS = 1.0
"""Until the next host is tried as well; less if the budget is short."""

FINAL = ("28", "3D", "42", "0A", "22")
"""Classes of what a server says that its next host would say, too: libpq tries no other host after them either."""


KIND_OF_SERVER = """\
SELECT FROM pg_catalog.generate_series(
    1, 2 * pg_catalog.pg_is_in_recovery()::int + (pg_catalog.current_setting('transaction_read_only') = 'on')::int
)"""
"""A simple query, which a pooler passes on in each mode. asyncpg does not return the rows of such a query, but their
number: 2 for a standby, and 1 more if it is read-only."""


class Connector:
    """Opens the connections of one pool.

    The host that was good last comes first. A silent host does not use all the time up: the next one is tried as well
    after a while, and the first that answers is used.

    Args:
        name: what errors and logs call the database; by default `host:port/database`.
        connect: in place of `asyncpg.connect`.
    """

    def __init__(
        self, parameters: ConnectionParameters, *, name: str = "", connect: Callable[..., Awaitable[Any]] | None = None
    ) -> None:
        self.parameters = parameters
        self.name: str = name or parameters.target
        self._driver: Callable[..., Awaitable[Any]] = connect or asyncpg.connect
        self._refused = RefusedTLS()
        self._resolve = Resolver()
        self._last_good: Host | None = None
        if parameters.dropped:
            words = ", ".join(parameters.dropped)
            logger.info("pool %s: these parameters of the DSN change nothing here: %s", self.name, words)

    @property
    def wants_writes(self) -> bool:
        """Whether only a server that takes writes is wanted, so that error 25006 means that another has to be found."""
        return self.parameters.session in ("read-write", "primary")

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
        spare: list[Any] = []  # connections to servers that are not of the kind that is wanted
        failed: dict[Host, Exception] = {}
        attempts = [partial(self._attempt, host, spare, failed, options) for host in hosts]
        budget = deadline - asyncio.get_running_loop().time()
        stagger = min(STAGGER_SECONDS, budget / (len(hosts) + 1))
        connection: Any = None
        try:
            try:
                async with asyncio.timeout_at(None if deadline == math.inf else deadline):
                    connection, errors = await first_success(attempts, stagger, drop=_drop, is_final=_is_final)
            except TimeoutError:
                silence = TimeoutError(f"no answer within {budget:.3g} s")
                errors = [failed.get(host, silence) for host in hosts]
            if connection is None and spare and self.parameters.session == "prefer-standby":
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
        self, host: Host, spare: list[Any], failed: dict[Host, Exception], options: dict[str, Any]
    ) -> Any:
        """Try one host; what it fails with is in `failed` even if the other hosts use the time up."""
        seconds = self.parameters.connect_timeout
        try:
            async with asyncio.timeout(None if seconds == math.inf else seconds):
                connection = await self._open(host, options)
                try:
                    kind = await _unsuited(connection, self.parameters.session)
                except BaseException:
                    _drop(connection)
                    raise
            if kind is not None:
                spare.append(connection)
                raise _UnsuitedError(kind)
        except Exception as error:
            failed[host] = error
            raise
        self._last_good = host
        return connection

    async def _open(self, host: Host, options: dict[str, Any]) -> Any:
        """Open a connection to one host; raises what asyncpg does."""
        if self._refused.is_remembered(host):
            try:
                return await self._connect(host, {**options, "ssl": "disable"})
            except Exception as error:
                self._refused.forget(host)
                if getattr(error, "sqlstate", None) != NOT_LET_IN:
                    raise
        connection = await self._connect(host, options)
        if self.parameters.tls.mode == "prefer":
            self._refused.notice(host, connection)
        return connection

    async def _connect(self, host: Host, options: dict[str, Any]) -> Any:
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
            shuffled = parameters.shuffled
            network = Network(loop, host, parameters.keepalive, self._resolve, shuffled=shuffled, log_in=log_in)
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


async def _unsuited(connection: Any, session: str) -> str | None:
    """What a server is, if it is not of the kind that is wanted.

    From PostgreSQL 14 it has said so at log-in. An earlier one, or a pooler in between, is asked.
    """
    if session == "any":
        return None
    said = connection.get_settings()
    standby = getattr(said, "in_hot_standby", None)
    read_only = getattr(said, "default_transaction_read_only", None)
    if standby is None or read_only is None:
        kind = int((await connection.execute(KIND_OF_SERVER)).split()[-1])
        is_standby, is_read_only = bool(kind & 2), bool(kind & 1)
    else:
        is_standby, is_read_only = standby == "on", "on" in (standby, read_only)
    if session in ("read-write", "read-only"):
        return None if is_read_only == (session == "read-only") else "read-only" if is_read_only else "read-write"
    return None if is_standby == (session != "primary") else "a standby" if is_standby else "a primary"


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
