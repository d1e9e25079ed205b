"""Pools: they open, lend and take back connections. One module for each driver; nothing here imports one by itself."""

from __future__ import annotations

from .dsn import is_dsn
from .lifetime import Lifetime, lifetime_in_own_task
from .opening import OpenablePool, as_pool, as_sql_pool, check_size, identity, open_pool
from .protocol import Lease, Operation, Pool, Row, SQLConnection, SQLLease, SQLPool

__all__ = (
    "Lease",
    "Lifetime",
    "OpenablePool",
    "Operation",
    "Pool",
    "Row",
    "SQLConnection",
    "SQLLease",
    "SQLPool",
    "as_pool",
    "as_sql_pool",
    "check_size",
    "identity",
    "is_dsn",
    "lifetime_in_own_task",
    "open_pool",
)
