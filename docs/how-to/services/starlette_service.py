"""Starlette: the storage lives in the lifespan and is in the state of each request."""

import os
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from preheat import (
    ArgumentError,
    ConnectError,
    PreheatError,
    ResearchRetriever,
    VectorStorage,
    WordLlamaEmbedder,
)


@asynccontextmanager
async def lifespan(app):
    embedder = WordLlamaEmbedder()
    async with VectorStorage(
        os.environ["DSN"],
        "handbook",
        embedder.dimensions,
        warm="background",
        keep_warm=True,
    ) as storage:
        yield {"retriever": ResearchRetriever(storage, embedder)}


async def ask(request):
    k = int(request.query_params.get("k", "3"))
    hits = await request.state.retriever.retrieve(request.query_params["question"], k=k)
    return JSONResponse([hit.as_dict() for hit in hits])


async def ready(request):
    state = request.state.retriever.storage.state
    return JSONResponse({"pool": state}, 200 if state == "warm" else 503)


async def alive(request):
    return JSONResponse({})


def status_of(error):
    if isinstance(error, ArgumentError):
        return 400  # the client's mistake
    return 503 if isinstance(error, ConnectError) else 500


async def explain(request, error):
    return JSONResponse({"error": str(error)}, status_of(error))


app = Starlette(
    routes=[Route("/ask", ask), Route("/ready", ready), Route("/alive", alive)],
    lifespan=lifespan,
    exception_handlers={PreheatError: explain},
)
