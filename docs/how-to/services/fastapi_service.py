"""FastAPI: the storage lives in the lifespan, routes get the retriever by `Depends`."""

import os
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from preheat import (
    ArgumentError,
    ConnectError,
    PreheatError,
    ResearchRetriever,
    VectorStorage,
    WordLlamaEmbedder,
)


@asynccontextmanager
async def lifespan(app: FastAPI):
    embedder = WordLlamaEmbedder()
    async with VectorStorage(
        os.environ["DSN"],
        "handbook",
        embedder.dimensions,
        warm="background",
        keep_warm=True,
    ) as storage:
        yield {"retriever": ResearchRetriever(storage, embedder)}


app = FastAPI(lifespan=lifespan)


def retriever_of(request: Request) -> ResearchRetriever:
    return request.state.retriever


Retriever = Annotated[ResearchRetriever, Depends(retriever_of)]


@app.get("/ask")
async def ask(question: str, retriever: Retriever, k: int = 3):
    return [hit.as_dict() for hit in await retriever.retrieve(question, k=k)]


@app.get("/ready")
async def ready(retriever: Retriever):
    state = retriever.storage.state
    return JSONResponse({"pool": state}, 200 if state == "warm" else 503)


@app.get("/alive")
async def alive():
    return {}


def status_of(error):
    if isinstance(error, ArgumentError):
        return 400  # the client's mistake
    return 503 if isinstance(error, ConnectError) else 500


@app.exception_handler(PreheatError)
async def explain(request: Request, error: PreheatError):
    return JSONResponse({"error": str(error)}, status_of(error))
