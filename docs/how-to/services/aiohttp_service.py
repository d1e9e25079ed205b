"""aiohttp: the storage is held by a cleanup context, a middleware maps errors."""

import os

from aiohttp import web

from preheat import (
    ArgumentError,
    ConnectError,
    PreheatError,
    ResearchRetriever,
    VectorStorage,
    WordLlamaEmbedder,
)

RETRIEVER = web.AppKey("retriever", ResearchRetriever)


async def lifespan(app):
    embedder = WordLlamaEmbedder()
    async with VectorStorage(
        os.environ["DSN"],
        "handbook",
        embedder.dimensions,
        warm="background",
        keep_warm=True,
    ) as storage:
        app[RETRIEVER] = ResearchRetriever(storage, embedder)
        yield


async def ask(request):
    hits = await request.app[RETRIEVER].retrieve(
        request.query["question"], k=int(request.query.get("k", "3"))
    )
    return web.json_response([hit.as_dict() for hit in hits])


async def ready(request):
    state = request.app[RETRIEVER].storage.state
    return web.json_response({"pool": state}, status=200 if state == "warm" else 503)


async def alive(request):
    return web.json_response({})


def status_of(error):
    if isinstance(error, ArgumentError):
        return 400  # the client's mistake
    return 503 if isinstance(error, ConnectError) else 500


@web.middleware
async def explain(request, handler):
    try:
        return await handler(request)
    except PreheatError as error:
        status = status_of(error)
        return web.json_response({"error": str(error)}, status=status)


app = web.Application(middlewares=[explain])
app.cleanup_ctx.append(lifespan)
app.add_routes([web.get("/ask", ask), web.get("/ready", ready), web.get("/alive", alive)])

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
