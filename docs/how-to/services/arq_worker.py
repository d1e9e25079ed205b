"""arq: the start and the end of a worker open and close the storage."""

import os

from arq.connections import RedisSettings

from preheat import ResearchRetriever, VectorStorage, WordLlamaEmbedder


async def on_startup(context):
    embedder = WordLlamaEmbedder()
    context["storage"] = VectorStorage(
        os.environ["DSN"],
        "handbook",
        embedder.dimensions,
        warm="background",
        keep_warm=True,
    )
    await context["storage"].open()
    context["retriever"] = ResearchRetriever(context["storage"], embedder)


async def on_shutdown(context):
    await context["storage"].close()


async def ask(context, question):
    return [hit.as_dict() for hit in await context["retriever"].retrieve(question, k=3)]


class WorkerSettings:
    functions = [ask]
    redis_settings = RedisSettings.from_dsn(
        os.environ.get("REDIS_DSN", "redis://127.0.0.1:6379")
    )
    on_startup = on_startup
    on_shutdown = on_shutdown
