"""Pools: they open, lend and take back connections. One module for each driver; nothing here imports one by itself."""

from __future__ import annotations

from .opening import as_pool, as_sql_pool, open_pool
from .protocol import Lease, Operation, Pool, Row, SQLConnection, SQLLease, SQLPool

__all__ = (
    "Lease",
    "Operation",
    "Pool",
    "Row",
    "SQLConnection",
    "SQLLease",
    "SQLPool",
    "as_pool",
    "as_sql_pool",
    "open_pool",
)
