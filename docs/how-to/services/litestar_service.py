"""Litestar: the storage lives in the lifespan, handlers get it as a dependency."""

import os
from contextlib import asynccontextmanager

from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.di import Provide

from preheat import (
    ArgumentError,
    ConnectError,
    PreheatError,
    ResearchRetriever,
    VectorStorage,
    WordLlamaEmbedder,
)


@asynccontextmanager
async def lifespan(app: Litestar):
    embedder = WordLlamaEmbedder()
    async with VectorStorage(
        os.environ["DSN"],
        "handbook",
        embedder.dimensions,
        warm="background",
        keep_warm=True,
    ) as storage:
        app.state.retriever = ResearchRetriever(storage, embedder)
        yield


async def retriever_of(state: State) -> ResearchRetriever:
    return state.retriever


@get("/ask")
async def ask(question: str, retriever: ResearchRetriever, k: int = 3) -> list[dict]:
    return [hit.as_dict() for hit in await retriever.retrieve(question, k=k)]


@get("/ready")
async def ready(retriever: ResearchRetriever) -> Response[dict]:
    state = retriever.storage.state
    return Response({"pool": state}, status_code=200 if state == "warm" else 503)


@get("/alive")
async def alive() -> dict:
    return {}


def status_of(error):
    if isinstance(error, ArgumentError):
        return 400  # the client's mistake
    return 503 if isinstance(error, ConnectError) else 500


def explain(request: Request, error: PreheatError) -> Response[dict]:
    status = status_of(error)
    return Response({"error": str(error)}, status_code=status)


app = Litestar(
    [ask, ready, alive],
    lifespan=[lifespan],
    dependencies={"retriever": Provide(retriever_of)},
    exception_handlers={PreheatError: explain},
)
