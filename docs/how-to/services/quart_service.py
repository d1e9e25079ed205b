"""Quart: the storage is held by `while_serving`."""

import os

from quart import Quart, current_app, request

from preheat import (
    ArgumentError,
    ConnectError,
    PreheatError,
    ResearchRetriever,
    VectorStorage,
    WordLlamaEmbedder,
)

app = Quart(__name__)


@app.while_serving
async def lifespan():
    embedder = WordLlamaEmbedder()
    async with VectorStorage(
        os.environ["DSN"],
        "handbook",
        embedder.dimensions,
        warm="background",
        keep_warm=True,
    ) as storage:
        app.extensions["retriever"] = ResearchRetriever(storage, embedder)
        yield


@app.get("/ask")
async def ask():
    retriever = current_app.extensions["retriever"]
    hits = await retriever.retrieve(
        request.args["question"], k=request.args.get("k", 3, int)
    )
    return [hit.as_dict() for hit in hits]


@app.get("/ready")
async def ready():
    state = current_app.extensions["retriever"].storage.state
    return {"pool": state}, 200 if state == "warm" else 503


@app.get("/alive")
async def alive():
    return {}


def status_of(error):
    if isinstance(error, ArgumentError):
        return 400  # the client's mistake
    return 503 if isinstance(error, ConnectError) else 500


@app.errorhandler(PreheatError)
async def explain(error):
    status = status_of(error)
    return {"error": str(error)}, status
