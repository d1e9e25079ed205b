"""taskiq: the events of a worker open and close the storage, which is in its state."""

import os
from typing import Annotated

from taskiq import Context, InMemoryBroker, TaskiqDepends, TaskiqEvents, TaskiqState

from preheat import ResearchRetriever, VectorStorage, WordLlamaEmbedder

broker = InMemoryBroker()  # in production a broker for Redis, RabbitMQ or NATS


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def on_startup(state: TaskiqState):
    embedder = WordLlamaEmbedder()
    state.storage = VectorStorage(
        os.environ["DSN"],
        "handbook",
        embedder.dimensions,
        warm="background",
        keep_warm=True,
    )
    await state.storage.open()
    state.retriever = ResearchRetriever(state.storage, embedder)


@broker.on_event(TaskiqEvents.WORKER_SHUTDOWN)
async def on_shutdown(state: TaskiqState):
    await state.storage.close()


@broker.task
async def ask(question: str, context: Annotated[Context, TaskiqDepends()]):
    return [hit.as_dict() for hit in await context.state.retriever.retrieve(question, k=3)]
