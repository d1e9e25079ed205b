"""asyncpg on asyncio: connections, the pool of our own, and the adapter of a pool that the application already has."""
