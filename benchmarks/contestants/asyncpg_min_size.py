"""asyncpg's pool with `min_size` connections, which opening the pool opens: that is its warm-up.

https://magicstack.github.io/asyncpg/current/api/index.html#asyncpg.pool.create_pool: the pool is initialized with
`init_size` connections, which is `min_size` unless it is given.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from benchmarks.contestants import asyncpg_pool
from benchmarks.runner.jobs import Job


def opened(job: Job) -> AbstractAsyncContextManager[asyncpg_pool.Opened]:
    return asyncpg_pool.opened(job, min_size=job.connections)
