"""FastAPI: the storage lives in the lifespan, routes get the retriever by `Depends`, errors have one handler."""

import os
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from preheat import ArgumentError, ConnectError, PreheatError, ResearchRetriever, VectorStorage, WordLlamaEmbedder


@asynccontextmanager
async def lifespan(app: FastAPI):
    embedder = WordLlamaEmbedder()
    async with VectorStorage(
        os.environ["DSN"], "handbook", embedder.dimensions, warm="background", keep_warm=True
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


@app.exception_handler(PreheatError)
async def explain(request: Request, error: PreheatError):
    status = 400 if isinstance(error, ArgumentError) else 503 if isinstance(error, ConnectError) else 500
    return JSONResponse({"error": str(error)}, status)
