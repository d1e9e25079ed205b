"""asyncpg on trio: the pool of our own in an asyncio loop that runs on top of trio, one crossing for each operation."""
