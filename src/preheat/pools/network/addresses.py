"""How a driver reaches one server: the look-up of its name, its addresses, and the options of the socket.

Asyncio-flavored. asyncpg opens its sockets through the event loop that it is given, so it is given one that opens them
as this module does.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeAlias

from ..dsn.parameters import Host, KeepAlive
from .channel_binding import BoundLogIn, BoundTransport, LogInProtocol
from .staggered import first_success
from .watched import WatchedLoop, Watcher

__all__ = ("Addresses", "Network", "NoMoreAddressesError", "Resolver", "set_options")

ADDRESS_STAGGER = 0.25
"""Seconds until the next address of one name is tried as well; the value of RFC 8305."""

MOST_ADDRESSES = 4
"""At so many addresses of a name a connection is tried if the servers there take it and are silent."""

Address: TypeAlias = tuple[Any, ...]
"""What `socket.getaddrinfo` says of one address."""


class Resolver:
    """Looks names up, each in one thread at a time.

    A thread that waits for a name server cannot be stopped. So nobody waits for its end: neither a caller that has been
    cancelled, nor the end of the event loop or the process.
    """

    def __init__(self) -> None:
        self._lookups: dict[tuple[str, int], asyncio.Future[list[Address]]] = {}

    async def __call__(self, name: str, port: int) -> list[Address]:
        """The addresses of a name.

        Raises:
            socket.gaierror: if it has none.
        """
        if (address := _literal(name, port)) is not None:
            return [address]
        key = (name, port)
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = asyncio.get_running_loop().create_future()
            lookup.add_done_callback(lambda done: self._forget(key, done))
            look = partial(_look_up, name, port, asyncio.get_running_loop(), lookup)
            threading.Thread(target=look, name=f"preheat: look up {name}", daemon=True).start()
        return await asyncio.shield(lookup)

    def _forget(self, key: tuple[str, int], done: asyncio.Future[list[Address]]) -> None:
        self._lookups.pop(key, None)
        if not done.cancelled():
            done.exception()  # every caller may have been cancelled


class NoMoreAddressesError(OSError):
    """Other attempts have taken all addresses of a host."""


class Addresses:
    """The addresses of one host, for the attempts to log in there that belong to one connection."""

    def __init__(self, resolve: Resolver, host: Host, *, shuffled: bool) -> None:
        self._resolve = resolve
        self._name, self._port = host.address or host.name, host.port
        self._shuffled = shuffled
        self._found: list[Address] | None = None  # None while they are not known
        self._taken: set[Address] = set()

    @property
    def most(self) -> int:
        """At how many of them to log in, at most."""
        return MOST_ADDRESSES if _literal(self._name, self._port) is None else 1

    def check(self) -> None:
        """Raise :class:`NoMoreAddressesError` if all are taken."""
        if self._found is not None and self._taken.issuperset(self._found):
            raise NoMoreAddressesError

    async def left(self) -> list[Address]:
        """Those that no attempt has taken, in the order in which to try them.

        Raises:
            socket.gaierror: if the host has none.
        """
        if self._found is None:
            try:
                found = await self._resolve(self._name, self._port)
            except Exception:
                self._found = []  # the next attempt need not ask again
                raise
            self._found = random.sample(found, len(found)) if self._shuffled else found
        self.check()
        return [address for address in self._found if address not in self._taken]

    def take(self, *addresses: Address) -> None:
        """An attempt logs in at these, or has tried them in vain."""
        self._taken.update(addresses)


def _literal(name: str, port: int) -> Address | None:
    """The address that a host is, if it is one and not a name."""
    try:
        version = ipaddress.ip_address(name).version
    except ValueError:
        return None
    if version == 4:
        return socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (name, port)
    if "%" in name:  # the scope has a number that the system knows
        return None
    return socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (name, port, 0, 0)


def _look_up(name: str, port: int, loop: Any, lookup: asyncio.Future[list[Address]]) -> None:
    try:
        found: list[Address] | Exception = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    except Exception as error:
        found = error

    def tell() -> None:
        if lookup.done():
            return
        if isinstance(found, Exception):
            lookup.set_exception(found)
        else:
            lookup.set_result(found)

    with suppress(RuntimeError):  # the loop is closed
        loop.call_soon_threadsafe(tell)


class Network:
    """An event loop that opens connections to one server as libpq does; in all else it is the loop within.

    Once a connection is open, later ones go to the same address: a request to cancel a statement has to reach the
    server that runs it, and a name may stand for several.
    """

    def __init__(
        self,
        loop: Any,
        addresses: Addresses,
        keepalive: KeepAlive,
        *,
        log_in: BoundLogIn | None = None,
    ) -> None:
        self._loop = loop
        self._addresses = addresses
        self._keepalive = keepalive
        self._log_in = log_in
        self._address: Address | None = None
        self._opened: Any = None
        self._watcher: Watcher | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    # `asyncio.current_task(loop)` finds the tasks of the loop within.

    def __eq__(self, other: object) -> bool:
        return bool(self._loop == (other._loop if isinstance(other, Network) else other))

    def __hash__(self) -> int:
        return hash(self._loop)

    def watch(self, watcher: Watcher) -> WatchedLoop:
        """Report the traffic of the connections that are opened from now on."""
        self._watcher = watcher
        self._loop = watched = WatchedLoop(self._loop, watcher)
        return watched

    async def create_connection(self, factory: Callable[[], Any], host: str, port: int, **options: Any) -> Any:
        """As an event loop's."""
        connected = await self._connect()
        if options.get("ssl"):
            options.setdefault("server_hostname", host)
        try:
            driver = factory()
            log_in = self._take_log_in() if options.get("ssl") else None
            protocol = driver if log_in is None else LogInProtocol(driver, log_in)
            self._opened, _ = await self._loop.create_connection(lambda: protocol, sock=connected, **options)
            return self._opened, driver
        except BaseException:
            connected.close()
            raise

    async def start_tls(self, *args: Any, **options: Any) -> Any:
        """As an event loop's."""
        transport = await self._loop.start_tls(*args, **options)
        self._opened = transport or self._opened
        log_in = self._take_log_in()
        return transport if log_in is None or transport is None else BoundTransport(transport, log_in)

    def abort(self) -> None:
        """Close what was opened last at once: the driver would say goodbye to a server that may never answer."""
        if self._opened is not None:
            self._opened.abort()

    def _take_log_in(self) -> BoundLogIn | None:
        """The log-in of the first connection; later ones only ask to cancel a statement."""
        log_in, self._log_in = self._log_in, None
        return log_in

    async def _connect(self) -> socket.socket:
        if self._address is not None:
            connected, _ = await self._connect_to(self._address)
            return connected
        if self._watcher is not None:
            self._watcher.resolving()
        addresses = await self._addresses.left()
        attempts = [partial(self._connect_to, address) for address in addresses]
        result = await first_success(attempts, ADDRESS_STAGGER, drop=_close, is_final=lambda _: False)
        found, errors = result
        if found is None:
            self._addresses.take(*addresses)
            raise errors[-1]
        connected, self._address = found
        self._addresses.take(self._address)
        return connected

    async def _connect_to(self, address: Address) -> tuple[socket.socket, Address]:
        family, kind, protocol, _, where = address
        made = socket.socket(family, kind, protocol)
        try:
            made.setblocking(False)
            set_options(made, self._keepalive)
            await self._loop.sock_connect(made, where)
        except BaseException:
            made.close()
            raise
        return made, address


def _close(connected: tuple[socket.socket, Address]) -> None:
    connected[0].close()


def set_options(connection: socket.socket, keepalive: KeepAlive) -> None:
    """Let the kernel notice that the other end is gone, as far as this system can."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if keepalive.user_timeout and hasattr(socket, "TCP_USER_TIMEOUT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, keepalive.user_timeout)
    if not keepalive.enabled:
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    idle = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"  # macOS
    for option, value in (
        (idle, keepalive.idle),
        ("TCP_KEEPINTVL", keepalive.interval),
        ("TCP_KEEPCNT", keepalive.count),
    ):
        if value and hasattr(socket, option):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
