"""Pools: they open, lend and take back connections. One module for each driver; nothing here imports one by itself."""

from __future__ import annotations

from .backend import running_backend
from .dsn.parameters import is_dsn
from .lifetime import Lifetime, lifetime_in_own_task
from .notices import hearing_notices
from .opening import OpenablePool, as_pool, as_sql_pool, identity, import_driver, open_pool, open_pool_for
from .options import Password, Prepare, ServerKind, check_options, check_size, prepare_of
from .peers.http import HTTPPool
from .protocol import Lease, Operation, Pool, Row, SQLConnection, SQLLease, SQLPool
from .statistics import (
    CallerWaited,
    ConnectionClosed,
    ConnectionLost,
    ConnectionOpened,
    ConnectionWarmed,
    PoolEvent,
    PoolHook,
    PoolStatistics,
)

__all__ = (
    "CallerWaited",
    "ConnectionClosed",
    "ConnectionLost",
    "ConnectionOpened",
    "ConnectionWarmed",
    "HTTPPool",
    "Lease",
    "Lifetime",
    "OpenablePool",
    "Operation",
    "Password",
    "Pool",
    "PoolEvent",
    "PoolHook",
    "PoolStatistics",
    "Prepare",
    "Row",
    "SQLConnection",
    "SQLLease",
    "SQLPool",
    "ServerKind",
    "as_pool",
    "as_sql_pool",
    "check_options",
    "check_size",
    "hearing_notices",
    "identity",
    "import_driver",
    "is_dsn",
    "lifetime_in_own_task",
    "open_pool",
    "open_pool_for",
    "prepare_of",
    "running_backend",
)
