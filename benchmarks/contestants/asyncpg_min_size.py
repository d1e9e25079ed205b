"""asyncpg's pool with `min_size` connections, which opening it opens: that is its warm-up.

https://magicstack.github.io/asyncpg/current/api/index.html#asyncpg.pool.create_pool: "`min_size`: number of connection
the pool will be initialized with".
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from benchmarks.contestants import asyncpg_pool
from benchmarks.jobs import Job


def opened(job: Job) -> AbstractAsyncContextManager[asyncpg_pool.Opened]:
    return asyncpg_pool.opened(job, min_size=job.connections)
