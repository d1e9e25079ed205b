"""The right pool for the running backend, and for a pool that the application already has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from importlib import import_module
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, cast, get_args

from ..errors import ArgumentError, ConnectError, MissingExtraError, PreheatError
from ..settings import setting
from .backend import running_backend
from .dsn.parameters import ConnectionParameters, connection_parameters
from .lifetime import Lifetime
from .options import ACQUIRE_SECONDS, Password, PoolOptions, Prepare, ServerKind, check_size, given, prepare_of
from .peers.recognized import peer_of
from .protocol import Lease, Operation, Pool, Row, SQLLease, SQLPool
from .statistics import PoolHook, PoolStatistics

__all__ = (
    "OpenablePool",
    "as_pool",
    "as_sql_pool",
    "check_size",
    "identity",
    "import_driver",
    "open_pool",
    "open_pool_for",
)

T = TypeVar("T")


class OpenablePool(AbstractAsyncContextManager[SQLPool]):
    """An async context manager, or a pool with :meth:`open` and :meth:`close`: see :func:`preheat.open_pool`."""

    def __init__(self, parameters: ConnectionParameters, options: PoolOptions) -> None:
        self._parameters = parameters
        self._options = options
        self._lifetime: Lifetime[SQLPool] | None = None
        self._pool: SQLPool | None = None
        import_driver()

    def __repr__(self) -> str:
        return f"<OpenablePool {self.name} size={self.size}>"

    async def open(self) -> Self:
        """Open the pool, for code that cannot hold an `async with`; it is this object that can then be used.

        Raises:
            PreheatError: if it is open already.
            MissingExtraError: on trio, if the extra `trio` is not installed.
        """
        await self.__aenter__()
        return self

    async def close(self) -> None:
        """Close the pool and its connections. Nothing happens if it is not open.

        Raises:
            PreheatError: in another event loop than that in which it was opened; on trio in another task, too.

        Cancellation: closes the connections even when it is cancelled, within 5 seconds.
        """
        lifetime, pool = self._lifetime, self._pool
        if lifetime is None:
            return
        self._pool = None
        try:
            await lifetime.leave()
        finally:
            if lifetime.has_ended:
                self._lifetime = None
            else:
                self._pool = pool

    async def __aenter__(self) -> SQLPool:
        if self._lifetime is not None and not self._lifetime.has_ended:
            raise PreheatError("the pool is open already; call open_pool() again for another one")
        self._lifetime = lifetime = Lifetime("pool", self._manager())
        try:
            self._pool = await lifetime.enter()
        except BaseException:
            self._lifetime = None
            raise
        return self._pool

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _manager(self) -> AbstractAsyncContextManager[SQLPool]:
        manager: AbstractAsyncContextManager[SQLPool] = _opener()(self._parameters, self._options)
        return manager

    @property
    def __wrapped__(self) -> SQLPool | None:
        return self._pool

    @property
    def _opened(self) -> SQLPool:
        if self._pool is None:
            remedy = "use `async with open_pool(...) as pool:`, or await its open()"
            raise ConnectError(self.name, "the pool is not open", remedy)
        return self._pool

    @property
    def name(self) -> str:
        """What logs and reports call this pool; never a password."""
        return self._options.name

    @property
    def size(self) -> int:
        """The most connections that the pool ever has open."""
        return self._options.size

    def statistics(self) -> PoolStatistics:
        """The state of the pool now, and what it has done since it was opened.

        Raises:
            ConnectError: if the pool is not open.
        """
        statistics: PoolStatistics = cast("Any", self._opened).statistics()
        return statistics

    def add_hook(self, hook: PoolHook) -> None:
        """Call a function with each event of the pool from now on, as one of `hooks` of :func:`preheat.open_pool`.

        Raises:
            ConnectError: if the pool is not open.
        """
        cast("Any", self._opened).add_hook(hook)

    def remove_hook(self, hook: PoolHook) -> None:
        """Do not call a function any more. Nothing happens if it is not a hook of the pool.

        Raises:
            ConnectError: if the pool is not open.
        """
        cast("Any", self._opened).remove_hook(hook)

    def lease(self) -> AbstractAsyncContextManager[SQLLease]:
        """Check one connection out; see :meth:`preheat.Pool.lease`."""
        return self._opened.lease()

    def lease_new(self) -> AbstractAsyncContextManager[SQLLease]:
        """Check one connection out, an idle one or a new one, but none that is given back meanwhile: for a warm-up."""
        lease: AbstractAsyncContextManager[SQLLease] = cast("Any", self._opened).lease_new()
        return lease

    async def run(self, operation: Operation[T], /) -> T:
        """Run `operation` on one connection; see :meth:`preheat.pools.SQLPool.run`."""
        return await self._opened.run(operation)

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        """Run one statement on one connection; see :meth:`preheat.pools.SQLPool.fetch`."""
        return await self._opened.fetch(query, *args)


def _opener() -> Any:
    """The function that opens a pool on the running backend; without one, on asyncio.

    Raises:
        MissingExtraError: on trio, if the extra `trio` is not installed.
    """
    if running_backend() == "trio":
        try:
            from .trio.pool import open_trio_asyncpg_pool
        except ImportError as error:
            raise MissingExtraError("asyncpg on trio", "trio") from error
        return open_trio_asyncpg_pool
    from .asyncpg.pool import open_asyncpg_pool

    return open_asyncpg_pool


def import_driver() -> None:
    """Import what a pool needs on the running backend; without one, on asyncio.

    It is called when a pool is made, often before an event loop runs, which the import would block. A part that is
    missing is reported when the pool is opened.
    """
    with suppress(MissingExtraError):
        _opener()
    with suppress(ImportError):
        import_module(f"anyio._backends._{running_backend()}")  # anyio itself imports it at its first call in a loop


def open_pool(
    dsn: object,
    *,
    size: int = 10,
    name: str | None = None,
    connect_timeout: float | None = None,
    acquire_timeout: float | None = None,
    statement_timeout: float | None = None,
    max_waiting: int | None = None,
    max_lifetime: float | None = None,
    max_idle: float | None = None,
    target_session_attrs: ServerKind | None = None,
    max_replica_lag: float | None = None,
    prepare: Prepare | None = None,
    application_name: str = "preheat",
    password: Password | None = None,
    connect: Callable[..., Awaitable[Any]] | None = None,
    init: Callable[[Any], Awaitable[object]] | None = None,
    hooks: Sequence[PoolHook] = (),
) -> OpenablePool:
    """Open a pool of PostgreSQL connections on asyncio or trio, whichever is running.

    Entering the context manager opens no connection, so it succeeds even for a server that is down; leaving it closes
    them all. On trio the driver's own asyncio loop is opened and closed with the pool. Code that cannot hold an `async
    with` awaits its methods :meth:`~preheat.pools.OpenablePool.open` and :meth:`~preheat.pools.OpenablePool.close`.

    The pool is used in the event loop and the process that it was opened in; anywhere else each call raises
    :class:`PreheatError` before anything is sent. A connection stays open, and hot, unless one of the options limits
    its life.

    Args:
        dsn: `postgresql://user:password@host:port/database`, with libpq's parameters, or libpq's `name=value` words; a
            string, or an object whose `str()` is one. The `PG*` variables and a service file say what it does not.
        size: the most connections that the pool ever has open.
        name: what logs and reports call the pool; by default `host:port/database`.
        connect_timeout: seconds for one connection, from the name of the host to the end of `init`, over all hosts of
            the DSN; by default the setting `PREHEAT_CONNECT_TIMEOUT`, or what the DSN says for each host, or 10.
        acquire_timeout: seconds that a caller waits for a connection, a new one or one that is given back, before it
            gets a :class:`PoolBusyError`; setting `PREHEAT_ACQUIRE_TIMEOUT`, by default 30.
        statement_timeout: seconds for one statement; setting `PREHEAT_STATEMENT_TIMEOUT`. By default a single statement
            (:meth:`~preheat.pools.SQLPool.fetch`, or through a lease) has 60 seconds. The statements of an operation
            (:meth:`~preheat.pools.SQLPool.run`) have no limit, because an index may take hours to build.
        max_waiting: how many callers may wait for one that is given back when all connections are in use; the next one
            gets a :class:`PoolBusyError` at once. Setting `PREHEAT_MAX_WAITING`, by default any number.
        max_lifetime: seconds after which a connection is replaced, some up to a tenth earlier so that not all end
            together. None for never.
        max_idle: seconds without use after which a connection is closed. None for never.
        target_session_attrs: the servers that the pool may use, in place of what the DSN says. With `"prefer-standby"`
            the primary serves while no standby can, which is logged once, and the pool looks for a standby again from
            time to time.
        max_replica_lag: seconds by which an answer of a standby may be out of date, at least 1. A standby that lags
            more is not used. The pool asks each standby when it connects, which takes one more round trip, and then
            four times in that many seconds, on a connection that is not in use. Setting `PREHEAT_MAX_REPLICA_LAG`, by
            default no limit.
        prepare: whether statements are prepared under a name, which saves a round trip each time one is used again.
            `"auto"`, the default, does so until it meets a pooler that gives each transaction to another session of the
            server. Setting `PREHEAT_PREPARE`.
        application_name: what the server shows in `pg_stat_activity`, unless the DSN or PGAPPNAME says something else.
        password: the password, or a function that returns it, which may be async; it is asked for each connection.
        connect: is awaited in place of `asyncpg.connect`, with the same arguments. On trio it must be
            asyncio-flavored.
        init: is awaited with each new connection before it is used, as :meth:`VectorStorage.get_connection` lends them.
        hooks: functions that are called with each event of the pool, see :data:`preheat.pools.PoolEvent`.

    Raises:
        ArgumentError: if the DSN cannot be taken apart or says something that cannot be honored, or another argument is
            invalid.
        MissingExtraError: on trio, if the extra `trio` is not installed.

    Cancellation: leaving closes the connections even when it is cancelled, within 5 seconds.
    """
    parameters = connection_parameters(dsn)
    if target_session_attrs is not None:
        if target_session_attrs not in get_args(ServerKind):
            kinds = ", ".join(get_args(ServerKind))
            raise ArgumentError(f"target_session_attrs is {target_session_attrs!r}; choose one of {kinds}")
        parameters = replace(parameters, session=target_session_attrs)
    prepare = setting("PREPARE", prepare_of, None) if prepare is None else prepare
    options = PoolOptions(
        name=name or parameters.target,
        size=size,
        connect_timeout=given("CONNECT_TIMEOUT", float, connect_timeout, parameters.seconds),
        acquire_timeout=given("ACQUIRE_TIMEOUT", float, acquire_timeout, ACQUIRE_SECONDS),
        statement_timeout=given("STATEMENT_TIMEOUT", float, statement_timeout, None),
        max_waiting=given("MAX_WAITING", int, max_waiting, None),
        max_lifetime=max_lifetime,
        max_idle=max_idle,
        max_replica_lag=given("MAX_REPLICA_LAG", float, max_replica_lag, None),
        prepare="auto" if prepare is None else prepare,
        application_name=application_name,
        password=password,
        connect=connect,
        init=init,
        hooks=tuple(hooks),
    )
    return OpenablePool(parameters, options)


def open_pool_for(purpose: Literal["writes", "searches"], dsn: object, **options: Any) -> OpenablePool:
    """Open the pool for the writes or that for the searches of a storage whose searches go to replicas.

    Raises:
        ArgumentError: if the DSN wants no server that takes writes, or whatever else :func:`open_pool` raises.
    """
    parameters = connection_parameters(dsn)
    if parameters.session in ("standby", "read-only"):
        raise ArgumentError(
            f"target_session_attrs={parameters.session} in the DSN leaves no server for writes; remove it: with "
            'read_from="replica" searches go to standbys by themselves'
        )
    if purpose == "searches":
        return open_pool(dsn, name=f"{parameters.target} (replicas)", target_session_attrs="prefer-standby", **options)
    kind: ServerKind = "primary" if parameters.session == "primary" else "read-write"
    return open_pool(dsn, target_session_attrs=kind, **options)


def as_pool(pool: Any) -> Pool[Lease]:
    """`pool` itself if it has the members of :class:`preheat.pools.Pool`, or an adapter for another library's pool.

    Raises:
        ArgumentError: if it is neither, or is a pool that cannot be warmed or cannot work on the running backend.
    """
    if isinstance(pool, Pool):
        return pool
    peer = peer_of(pool)
    return _adapted(pool, "size", "lease") if peer is None else peer.adapter(pool)


def as_sql_pool(pool: Any) -> SQLPool:
    """`pool` itself if it has the members of :class:`preheat.pools.SQLPool`, or an adapter that has them.

    Raises:
        ArgumentError: if there is no adapter for it, or it is a pool that cannot work on the running backend.
    """
    if isinstance(pool, SQLPool):
        return pool
    peer = peer_of(pool)
    if peer is not None:
        raise ArgumentError(
            f"{peer.title} can be warmed, but not stored on or searched: those statements are for asyncpg, with its $1 "
            "arguments and its binary COPY; give the DSN, preheat.open_pool(dsn) or an asyncpg pool"
        )
    return _adapted(pool, "size", "lease", "run")


def _adapted(pool: Any, *needed: str) -> SQLPool:
    missing = [name for name in needed if not hasattr(pool, name)]
    if not missing:
        return _PoolWithDefaults(pool)
    if hasattr(pool, "acquire") and hasattr(pool, "release") and hasattr(pool, "get_max_size"):
        if running_backend() == "trio":
            raise ArgumentError(
                "an asyncpg pool belongs to an asyncio loop and trio is running; open it with preheat.open_pool(dsn)"
            )
        from .asyncpg.adapter import AsyncpgPool

        return AsyncpgPool(pool, name="asyncpg")
    raise ArgumentError(
        f"a {type(pool).__name__} is not a pool: it has no {' and no '.join(f'`{name}`' for name in missing)}; give a "
        "pool of preheat.open_pool(dsn), an asyncpg pool, or an object with the members of preheat."
        + ("SQLPool" if "run" in needed else "Pool")
    )


class _PoolWithDefaults(SQLPool):
    """A pool of the user's own that leaves out what has a default."""

    def __init__(self, pool: Any) -> None:
        self.__wrapped__ = pool

    @property
    def name(self) -> str:
        name: str = getattr(self.__wrapped__, "name", type(self.__wrapped__).__name__)
        return name

    @property
    def size(self) -> int:
        size: int = self.__wrapped__.size
        return size

    def lease(self) -> Any:
        return self.__wrapped__.lease()

    async def run(self, operation: Operation[T], /) -> T:
        result: T = await self.__wrapped__.run(operation)
        return result

    async def fetch(self, query: str, /, *args: Any) -> Sequence[Row]:
        if hasattr(self.__wrapped__, "fetch"):
            rows: Sequence[Row] = await self.__wrapped__.fetch(query, *args)
            return rows
        return await super().fetch(query, *args)


def identity(pool: Any) -> object:
    """The pool that stands behind all adapters of it, such as the driver's own."""
    while (wrapped := getattr(pool, "__wrapped__", None)) is not None:
        pool = wrapped
    return pool
