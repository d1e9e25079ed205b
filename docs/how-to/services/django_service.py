"""Django under ASGI: it has no lifespan, so an application around it holds the storage."""

import os

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path

from preheat import (
    ArgumentError,
    ConnectError,
    PreheatError,
    ResearchRetriever,
    VectorStorage,
    WordLlamaEmbedder,
)

settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["127.0.0.1"], MIDDLEWARE=[f"{__name__}.explain"]
)
django.setup()


async def ask(request):
    hits = await request.scope["state"]["retriever"].retrieve(
        request.GET["question"], k=int(request.GET.get("k", "3"))
    )
    return JsonResponse([hit.as_dict() for hit in hits], safe=False)


async def ready(request):
    state = request.scope["state"]["retriever"].storage.state
    return JsonResponse({"pool": state}, status=200 if state == "warm" else 503)


async def alive(request):
    return JsonResponse({})


def status_of(error):
    if isinstance(error, ArgumentError):
        return 400  # the client's mistake
    return 503 if isinstance(error, ConnectError) else 500


class explain:
    """A middleware that maps errors to statuses."""

    async_capable, sync_capable = True, False

    def __init__(self, get_response):
        from asgiref.sync import markcoroutinefunction

        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request):
        return await self.get_response(request)

    def process_exception(self, request, error):
        if isinstance(error, PreheatError):
            status = status_of(error)
            return JsonResponse({"error": str(error)}, status=status)


urlpatterns = [path("ask", ask), path("ready", ready), path("alive", alive)]
website = get_asgi_application()


async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        return await website(scope, receive, send)
    await receive()
    embedder = WordLlamaEmbedder()
    async with VectorStorage(
        os.environ["DSN"],
        "handbook",
        embedder.dimensions,
        warm="background",
        keep_warm=True,
    ) as storage:
        scope["state"]["retriever"] = ResearchRetriever(storage, embedder)
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})
