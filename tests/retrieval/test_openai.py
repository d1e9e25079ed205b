from __future__ import annotations

import json
import logging
import math
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import anyio
import httpx
import numpy as np
import pytest
from tests.support.server import free_port

from preheat import ArgumentError, EndpointError, MissingExtraError, OpenAIEmbedder, ResearchRetriever, VectorStorage
from preheat.retrieval.embedders.endpoint import checked_url, refusal, vectors_in
from preheat.testing import FakePool, run

KEY = "sk-proj-a1b2c3d4e5f6-very_secret"
URL = "http://models.test/v1"


def good(asked: dict[str, Any]) -> dict[str, Any]:
    """A response of an endpoint: one row for each text, in any order."""
    size = asked.get("dimensions", 2)
    rows = [
        {"object": "embedding", "index": place, "embedding": [float(len(text)), *[0.5] * (size - 1)]}
        for place, text in enumerate(asked["input"])
    ]
    return {"object": "list", "data": rows[::-1], "model": asked["model"], "usage": {"total_tokens": 1}}


class Endpoint:
    """An endpoint without a network. It sends the given responses, then valid ones, and records the times."""

    def __init__(self, *answers: httpx.Response | Exception | str) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.times: list[float] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.times.append(anyio.current_time())
        answer = self.answers.pop(0) if self.answers else httpx.Response(200, json=good(json.loads(request.content)))
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            assert answer == "nothing, ever"
            await anyio.sleep_forever()
        assert isinstance(answer, httpx.Response)
        return httpx.Response(answer.status_code, headers=answer.headers, content=answer.content)  # each is used once

    def embedder(self, model: str = "tiny", **more: Any) -> OpenAIEmbedder:
        more = {"base_url": URL, "api_key": KEY, "client": self.client(), **more}
        return OpenAIEmbedder(model, **more)

    def client(self, **more: Any) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self), **more)


@pytest.fixture(autouse=True)
def _no_keys_around(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


def without_the_key(error: BaseException) -> None:
    """Neither an error nor its causes contain the key."""
    seen: BaseException | None = error
    while seen is not None:
        assert KEY not in f"{seen} {seen!r} {seen.args}"
        seen = seen.__cause__ or seen.__context__
    assert KEY not in "".join(traceback.format_exception(error))
    assert KEY not in repr(vars(error))


# What is asked, and what is made of the answer


async def test_texts_to_vectors_in_their_order() -> None:
    endpoint = Endpoint()
    vectors = await endpoint.embedder().embed(["a", "bb", "ccc"])

    assert (vectors.tolist(), vectors.dtype) == ([[1.0, 0.5], [2.0, 0.5], [3.0, 0.5]], np.float32)
    (request,) = endpoint.requests
    assert (request.method, str(request.url)) == ("POST", "http://models.test/v1/embeddings")
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert json.loads(request.content) == {"model": "tiny", "input": ["a", "bb", "ccc"], "encoding_format": "float"}


async def test_many_texts_go_in_batches() -> None:
    endpoint = Endpoint()
    vectors = await endpoint.embedder(batch_size=2, dimensions=3).embed(["a", "bb", "ccc", "dddd", "eeeee"])

    assert vectors[:, 0].tolist() == [1, 2, 3, 4, 5]
    assert vectors.shape == (5, 3)
    asked = [json.loads(request.content) for request in endpoint.requests]
    assert [one["input"] for one in asked] == [["a", "bb"], ["ccc", "dddd"], ["eeeee"]]
    assert {one["dimensions"] for one in asked} == {3}


async def test_no_texts_send_no_request() -> None:
    endpoint = Endpoint()
    assert (await endpoint.embedder(dimensions=3).embed([])).shape == (0, 3)
    assert not endpoint.requests


async def test_an_invalid_text_is_not_sent() -> None:
    endpoint = Endpoint()
    with pytest.raises(ArgumentError, match="not valid Unicode"):
        await endpoint.embedder(batch_size=1).embed(["fine", "\ud800"])
    assert not endpoint.requests


async def test_dimensions_are_known_from_the_argument_the_model_or_the_first_answer() -> None:
    embedder = Endpoint().embedder()
    assert embedder.known_dimensions is None
    with pytest.raises(ArgumentError, match="'tiny' has is known after its first answer"):
        assert embedder.dimensions
    await embedder.embed(["a"])
    assert (embedder.dimensions, embedder.known_dimensions) == (2, 2)
    assert Endpoint().embedder(dimensions=7).dimensions == 7
    assert Endpoint().embedder("text-embedding-3-small").dimensions == 1536


async def test_a_model_of_unknown_dimensions_fits_a_retriever() -> None:
    endpoint = Endpoint()
    async with VectorStorage(FakePool(), "x", 2) as storage:
        retriever = ResearchRetriever(storage, endpoint.embedder())
        for _ in range(2):
            assert await retriever.retrieve("why?") == []
    assert len(endpoint.requests) == 1


# What goes wrong, and is tried again


TRANSIENT: list[Any] = [
    httpx.Response(429, json={"error": {"message": "slow down"}}),
    httpx.Response(500, text="oops"),
    httpx.Response(503),
    httpx.Response(408),
    httpx.Response(409, json={"message": "a request with this key is under way"}),
    httpx.Response(425),
    httpx.Response(200, json={"error": {"message": "model overloaded", "code": 503}}),
    httpx.Response(200, json={"error": {"message": "slow down", "code": "429"}}),
    httpx.Response(200, json={"error": {"message": "slow down", "type": "rate_limit_error"}}),
    httpx.Response(200, json={"error": "busy", "status": 503, "data": None}),
    httpx.Response(529, json={"detail": "overloaded"}),
    httpx.ConnectError("refused"),
    httpx.ReadError("reset"),
    httpx.RemoteProtocolError("closed without an answer"),
    httpx.ReadTimeout("slow"),
    httpx.ConnectTimeout("slow"),
    "nothing, ever",
]


@pytest.mark.parametrize("trouble", TRANSIENT, ids=repr)
def test_a_transient_error_is_tried_again(backend: str, trouble: Any) -> None:
    async def main() -> None:
        endpoint = Endpoint(trouble, trouble)
        assert (await endpoint.embedder().embed(["a"])).tolist() == [[1.0, 0.5]]
        assert len(endpoint.requests) == 3

    run(backend, main)


@pytest.mark.parametrize("trouble", TRANSIENT, ids=repr)
def test_a_transient_error_that_persists_is_raised(backend: str, trouble: Any) -> None:
    async def main() -> None:
        endpoint = Endpoint(*[trouble] * 3)
        with pytest.raises(EndpointError) as caught:
            await endpoint.embedder(attempts=3, timeout=10).embed(["a"])
        assert len(endpoint.requests) == 3
        assert caught.value.transient
        assert caught.value.target == URL
        assert caught.value.status == (trouble.status_code if isinstance(trouble, httpx.Response) else None)
        assert isinstance(caught.value.__cause__, (httpx.HTTPError, TimeoutError)) != (caught.value.status is not None)
        without_the_key(caught.value)

    run(backend, main)


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (httpx.Response(400, json={"error": {"message": "too\n long"}}), "400 and says: too long; check the model"),
        (httpx.Response(401, json={"error": {"message": f"Incorrect API key provided: {KEY}"}}), "OPENAI_API_KEY"),
        (httpx.Response(401, json={"error": "Incorrect: sk-proj-a1***secret."}), r"says: Incorrect: \*\*\*; give"),
        (httpx.Response(403, json={"error": {"message": "no right"}}), "no right; use a key that may"),
        (httpx.Response(404, text="404 page not found"), "page not found; check base_url"),
        (httpx.Response(405), "with status 405; check base_url"),
        (httpx.Response(413), "smaller batch_size"),
        (httpx.Response(422, json={"detail": [{"msg": "?"}]}), "status 422; check"),
        (httpx.Response(429, json={"error": {"message": "quota", "code": "insufficient_quota"}}), "pay for more"),
        (httpx.Response(429, headers={"Retry-After": "61"}), "ask less often"),
        (httpx.Response(302, headers={"Location": "http://elsewhere.test"}), "redirects are not followed"),
        (httpx.Response(404, text="x" * 999 + KEY), r"x{200}\.\.\.;"),
        (httpx.Response(404, text="x" * 190 + KEY), r"x{190}\*\*\*;"),
        (httpx.UnsupportedProtocol("no such protocol"), "UnsupportedProtocol: no such protocol"),
        (httpx.Response(200, text="<html>"), "no list of embeddings"),
        (httpx.Response(200, json=[]), "no list of embeddings"),
        (httpx.Response(200, json={"data": []}), "0 vectors for 1 texts"),
        (httpx.Response(200, json={"data": [{"index": 1, "embedding": [1.0]}]}), "not one for each"),
        (httpx.Response(200, json={"data": [{"index": 0, "embedding": "AACAPw=="}]}), "no lists of numbers"),
        (httpx.Response(200, json={"data": [{"index": 0, "embedding": [{}]}]}), "check base_url"),
        (
            httpx.Response(200, json={"data": None, "message": "no more today"}),
            "it says: no more today;",
        ),
        (httpx.Response(200, json={"data": None, "errors": [{"message": "no route"}]}), "it says: no route;"),
        (httpx.Response(200, json={"data": [{"index": 0, "error": {"message": "too odd"}}]}), "it says: too odd;"),
        (httpx.Response(200, json={"data": {"index": 0}}), "no list of embeddings; check"),
    ],
)
async def test_a_permanent_error_is_not_tried_again(trouble: Any, words: str) -> None:
    endpoint = Endpoint(trouble)
    embedder = OpenAIEmbedder("tiny", base_url=URL, api_key=KEY, client=endpoint.client(follow_redirects=True))
    with pytest.raises(EndpointError, match=words) as caught:
        await embedder.embed(["a"])
    assert len(endpoint.requests) == 1
    assert str(caught.value).startswith("no embeddings from http://models.test/v1: ")
    without_the_key(caught.value)


WHAT_ENDPOINTS_SAY: list[tuple[Any, str]] = [
    ({"error": {"message": "no such model", "code": 404}}, "no such model"),
    ({"error": "the input length exceeds the context length"}, "the input length exceeds the context length"),
    ({"error": True, "message": "bad input"}, "bad input"),
    ({"error": {"error": {"message": "deeper"}}}, "deeper"),
    ({"object": "error", "message": "too many tokens", "code": 40303}, "too many tokens"),
    ({"error": "Bad Request", "message": "input is too long"}, "Bad Request: input is too long"),
    ([{"error": {"message": "in a list"}}], "in a list"),
    ({"detail": "not here"}, "not here"),
    ({"detail": [{"loc": ["body", "input"], "msg": "field required"}]}, "body.input field required"),
    ({"errors": ["one", {"message": "two"}]}, "one: two"),
    ({"Message": "forbidden"}, "forbidden"),
    ({"title": "Too large", "detail": "at most 512 tokens"}, "Too large: at most 512 tokens"),
    ({"unknown": {"shape": 5}}, '{"unknown": {"shape": 5}}'),
    ("<html><title>502 Bad Gateway</title><style>p</style><p>nginx</p></html>", "502 Bad Gateway nginx"),
    ("\x1b[31mred\x1b[0m\r\nalert", "[31mred [0m alert"),
]


@pytest.mark.parametrize(("body", "words"), WHAT_ENDPOINTS_SAY, ids=[words for _, words in WHAT_ENDPOINTS_SAY])
async def test_an_error_has_the_message_of_the_endpoint_in_any_shape(body: Any, words: str) -> None:
    answer = {"content": body} if isinstance(body, str) else {"json": body}
    with pytest.raises(EndpointError) as caught:
        await Endpoint(httpx.Response(400, **answer)).embedder(attempts=1).embed(["a"])
    assert caught.value.reason == f"it answered with status 400 and says: {words}"


@pytest.mark.parametrize("status", [200, 201, 207])
async def test_an_error_inside_a_successful_response_has_the_message_of_the_endpoint(status: int) -> None:
    trouble = httpx.Response(status, json={"error": {"message": f"no such model for {KEY}", "code": 404}, "data": []})
    with pytest.raises(
        EndpointError, match=rf"status {status} and says: no such model for \*\*\*; check base_url"
    ) as caught:
        await Endpoint(trouble).embedder().embed(["a"])
    assert (caught.value.status, caught.value.transient) == (status, False)
    without_the_key(caught.value)


@pytest.mark.parametrize("shape", [lambda words: {"error": words}, lambda words: {"a": [words]}, lambda words: words])
async def test_messages_are_short_and_never_contain_the_key(shape: Any) -> None:
    for before in (0, 150, 190, 3995, 50_000):
        words = shape("x" * before + KEY + " and more" * 1000)
        answer = {"content": words} if isinstance(words, str) else {"json": words}
        with pytest.raises(EndpointError) as caught:
            await Endpoint(httpx.Response(400, **answer)).embedder().embed(["a"])
        assert len(str(caught.value)) < 500
        assert KEY[:12] not in str(caught.value)


@pytest.mark.parametrize("status", [200, 201, 203, 299])
async def test_any_successful_status_with_vectors_is_accepted(status: int) -> None:
    answer = httpx.Response(status, json={"error": None, "data": [{"index": 0, "embedding": [1, 2.0]}]})
    assert (await Endpoint(answer).embedder().embed(["a"])).tolist() == [[1, 2]]


def row(embedding: Any, **more: Any) -> dict[str, Any]:
    return {"index": 0, "embedding": embedding, **more}


USELESS: list[tuple[str, str]] = [
    ("", "no list of embeddings"),
    ("null", "no list of embeddings"),
    ("<html>not found</html>", "no list of embeddings; it says: not found;"),
    ("[" * 100_000, "no list of embeddings"),
    (json.dumps({"embeddings": [[1.0]]}), r'no list of embeddings; it says: \{"embeddings": \[\[1.0'),
    (json.dumps({"data": [row([[1.0, 2.0], [3.0, 4.0]])]}), "vector for each token"),
    (json.dumps({"data": [row([1.0, None])]}), "dimension 1 of the embedding is None"),
    (json.dumps({"data": [row([1.0, math.nan])]}), "dimension 1 of the embedding is nan"),
    (json.dumps({"data": [row([math.inf])]}), "dimension 0 of the embedding is inf"),
    (json.dumps({"data": [row([10**400])]}), "dimension 0 of the embedding is 1000"),
    ('{"data": [{"index": 0, "embedding": [1' + "0" * 5000 + "]}]}", "no list of embeddings"),
    (json.dumps({"data": [row(["1.0"])]}), "dimension 0 of the embedding is '1.0', not a number"),
    (json.dumps({"data": [row([True])]}), "dimension 0 of the embedding is True, not a number"),
    (json.dumps({"data": [row([])]}), "it is empty"),
    (json.dumps({"data": [row("AACAPw==")]}), "strings, base64 perhaps"),
    (json.dumps({"data": [row({"values": [1.0]})]}), "no lists of numbers"),
    (json.dumps({"data": [row([1.0]), row([2.0])]}), "2 vectors for 1 texts"),
    (json.dumps({"data": [row([1.0], index=1)]}), "not one for each"),
    (json.dumps({"data": [row([1.0], index="0")]}), "whole number"),
    (json.dumps({"data": [row([1.0], index=[0])]}), "not a whole number"),
    (json.dumps({"data": [row([1.0], index=False)]}), "not a whole number"),
]


@pytest.mark.parametrize(("body", "words"), USELESS, ids=[words for _, words in USELESS])
async def test_a_response_without_finite_numbers_for_each_text_is_refused(body: str, words: str) -> None:
    embedder = Endpoint(httpx.Response(200, content=body)).embedder()
    with pytest.raises(EndpointError, match=words) as caught:
        await embedder.embed(["a"])
    assert (caught.value.status, caught.value.transient, embedder.known_dimensions) == (200, False, None)
    assert len(str(caught.value)) < 600
    assert (await embedder.embed(["a"])).tolist() == [[1.0, 0.5]]


async def test_rows_that_name_their_texts_twice_or_only_in_part_are_refused() -> None:
    for indexes in ([0, 0], [0, None], [1, 2]):
        rows = [row([1.0, float(place)], index=place) for place in indexes if place is not None]
        rows += [{"embedding": [1.0, 2.0]} for place in indexes if place is None]
        with pytest.raises(EndpointError, match=r"not one for each|have no index"):
            await Endpoint(httpx.Response(200, json={"data": rows})).embedder().embed(["a", "b"])


async def test_a_response_with_other_dimensions_fails_one_call_only() -> None:
    odd = httpx.Response(200, json={"data": [row([1.0, 2.0, 3.0])]})
    embedder = Endpoint(odd).embedder()
    assert (await embedder.embed(["a"])).shape == (1, 3)
    with pytest.raises(EndpointError, match="gave 2 dimensions in place of 3"):
        await embedder.embed(["a"])
    assert (await embedder.embed(["a"])).shape == (1, 2)


async def test_a_large_response_is_read_in_a_thread() -> None:
    reading: set[int] = set()

    class Watched(OpenAIEmbedder):
        def _read(self, response: Any, count: int) -> Any:
            reading.add(threading.get_ident())
            return super()._read(response, count)

    endpoint = Endpoint()
    embedder = Watched("tiny", base_url=URL, api_key="", client=endpoint.client(), dimensions=4000)
    assert (await embedder.embed(["a"] * 64)).shape == (64, 4000)
    assert reading
    assert reading.isdisjoint({threading.get_ident()})


async def test_a_model_that_does_not_support_the_dimensions_is_an_error() -> None:
    endpoint = Endpoint(httpx.Response(200, json={"data": [{"index": 0, "embedding": [1.0, 2.0]}]}))
    with pytest.raises(EndpointError, match="gave 2 dimensions in place of 3"):
        await endpoint.embedder(dimensions=3).embed(["a"])


@pytest.mark.parametrize("seconds", [0, 7, 42.5])
def test_retry_after_is_honored(backend: str, seconds: float) -> None:
    async def main() -> None:
        endpoint = Endpoint(httpx.Response(429, headers={"Retry-After": str(seconds)}))
        await endpoint.embedder().embed(["a"])
        first, second = endpoint.times
        assert second - first == pytest.approx(seconds)

    run(backend, main)


def test_attempts_have_pauses_between_them(backend: str) -> None:
    async def main() -> None:
        endpoint = Endpoint(*[httpx.Response(500)] * 3)
        await endpoint.embedder().embed(["a"])
        times = endpoint.times
        assert all(0.1 <= after - before <= 5 for before, after in pairwise(times))

    run(backend, main)


async def test_a_cancelled_caller_leaves_and_the_next_call_works() -> None:
    endpoint = Endpoint("nothing, ever")
    embedder = endpoint.embedder()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(embedder.embed, ["a"])
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert (await embedder.embed(["bb"])).tolist() == [[2.0, 0.5]]
    assert len(endpoint.requests) == 2


# Keys and addresses


async def test_nothing_shows_the_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint = Endpoint(httpx.Response(429, headers={"Retry-After": "0"}, text=KEY), httpx.Response(401, text=KEY))
    embedder = endpoint.embedder()
    with pytest.raises(EndpointError) as caught:
        await embedder.embed(["a"])
    without_the_key(caught.value)
    assert len(caplog.records) > 1
    assert KEY not in caplog.text
    assert all(KEY not in repr(vars(record)) for record in caplog.records)
    assert KEY not in repr(embedder)
    assert KEY not in repr(vars(embedder))
    assert repr(embedder) == "<OpenAIEmbedder 'tiny' at http://models.test/v1>"


@pytest.mark.parametrize("key", [f"{KEY}\nX-Evil: 1", f"{KEY} 2", f"{KEY}\u00e9", "   "])
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ArgumentError, match="the API key is empty or holds characters") as caught:
        OpenAIEmbedder("tiny", api_key=key)
    without_the_key(caught.value)


async def test_white_space_around_a_key_is_removed() -> None:
    endpoint = Endpoint()
    await endpoint.embedder(api_key=f" {KEY}\n").embed(["a"])
    assert endpoint.requests[0].headers["authorization"] == f"Bearer {KEY}"


async def test_url_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = Endpoint()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://elsewhere.test/api/v1/")
    await OpenAIEmbedder("tiny", client=endpoint.client()).embed(["a"])
    await OpenAIEmbedder("tiny", base_url=URL, api_key="", client=endpoint.client()).embed(["a"])
    first, second = endpoint.requests
    assert (str(first.url), first.headers["authorization"]) == (
        "https://elsewhere.test/api/v1/embeddings",
        f"Bearer {KEY}",
    )
    assert (str(second.url), "authorization" in second.headers) == ("http://models.test/v1/embeddings", False)


def test_openai_itself_needs_a_key() -> None:
    with pytest.raises(ArgumentError, match=r"api\.openai\.com/v1 needs a key; give api_key, or set"):
        OpenAIEmbedder("text-embedding-3-small")


@pytest.mark.parametrize(
    "url",
    [
        "models.test/v1",
        "ftp://models.test/v1",
        "http:///v1",
        "http://[broken/v1",
        "http://models.test:99999999/v1",
        f"http://user:{KEY}@models.test/v1",
        f"http://{KEY}@models.test/v1",
        f"http://models.test/v1?key={KEY}",
        f"http://models.test/v1#{KEY}",
        "http://models.test/v1\r\nX-Evil: 1",
    ],
)
def test_an_invalid_url_or_one_with_a_secret_is_refused(url: str) -> None:
    with pytest.raises(ArgumentError, match="base_url") as caught:
        OpenAIEmbedder("tiny", base_url=url, api_key=KEY)
    without_the_key(caught.value)
    assert checked_url(" http://[::1]:8080/v1/ ") == "http://[::1]:8080/v1"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"attempts": 0}, "attempts is 0"),
        ({"dimensions": 0}, "dimensions is 0"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": float("nan")}, "timeout is nan"),
        ({"model": ""}, "has no name"),
    ],
)
def test_arguments_out_of_range_are_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ArgumentError, match=words):
        Endpoint().embedder(**wrong)


@pytest.mark.parametrize("library", ["httpx", "stamina", "numpy"])
def test_a_missing_library_names_its_extra(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'preheat\[openai\]'"):
        OpenAIEmbedder("tiny", api_key=KEY)


# Over a real connection


class Served(ThreadingHTTPServer):
    daemon_threads = True
    connections = 0
    asked = 0
    refuse_first = 0


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Served

    def setup(self) -> None:
        super().setup()
        self.server.connections += 1

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked += 1
        refused = self.server.asked <= self.server.refuse_first
        allowed = self.path == "/v1/embeddings" and self.headers["Authorization"] == f"Bearer {KEY}"
        body = json.dumps(good(asked) if allowed and not refused else {"error": self.headers["Authorization"]}).encode()
        self.send_response(503 if refused else 200 if allowed else 401)
        if refused:
            self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def served() -> Iterator[tuple[Served, str]]:
    with Served(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server, f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


async def test_over_http_each_call_has_a_connection_or_all_share_one() -> None:
    with served() as (server, url):
        embedder = OpenAIEmbedder("tiny", base_url=url, api_key=KEY)
        for _ in range(2):
            assert (await embedder.embed(["a"])).tolist() == [[1.0, 0.5]]
        assert server.connections == 2
        async with embedder as entered:
            assert entered is embedder
            for _ in range(3):
                await embedder.embed(["a"])
            with pytest.raises(ArgumentError, match="is open already"):
                await embedder.__aenter__()
        assert server.connections == 3
        await embedder.embed(["a"])  # it can be used, and entered, again
        async with embedder:
            await embedder.embed(["a"])
        assert (server.connections, server.asked) == (5, 7)


async def test_over_http_a_transient_refusal_is_tried_again() -> None:
    with served() as (server, url):
        server.refuse_first = 2
        vectors = await OpenAIEmbedder("tiny", base_url=url, api_key=KEY).embed(["a"])
        assert (vectors.tolist(), server.asked, server.connections) == ([[1.0, 0.5]], 3, 1)


async def test_over_http_a_refused_key_is_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    key = KEY[::-1]
    with served() as (server, url):
        with pytest.raises(EndpointError, match="status 401") as caught:
            await OpenAIEmbedder("tiny", base_url=url, api_key=key).embed(["a"])
        assert server.asked == 1
    assert key not in "".join(traceback.format_exception(caught.value)) + caplog.text


async def test_an_endpoint_that_cannot_be_reached_is_an_error() -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    with pytest.raises(EndpointError, match="see that the endpoint runs") as caught:
        await OpenAIEmbedder("tiny", base_url=url, api_key=KEY, attempts=1).embed(["a"])
    assert (caught.value.target, caught.value.status, caught.value.transient) == (url, None, True)
    assert isinstance(caught.value.__cause__, httpx.ConnectError)


# Plain functions


def test_a_retry_after_is_seconds_or_a_date_or_nothing() -> None:
    import datetime as dt

    now = 1_700_000_000.0
    in_a_minute = dt.datetime.fromtimestamp(now + 60, dt.UTC)
    cases = {
        "5": 5.0,
        "-5": 0.0,
        "nan": 0.0,
        "inf": float("inf"),
        format_datetime(in_a_minute, usegmt=True): 60.0,
        "Wed, 21 Oct 2015 07:28:00 GMT": 0.0,
        "soon": None,
        "": None,
    }
    for text, seconds in cases.items():
        assert refusal(URL, 429, {"retry-after": text}, None, now).retry_after == seconds


def test_rows_without_an_index_are_in_order() -> None:
    rows: list[dict[str, Any]] = [{"embedding": [1.0]}, {"embedding": [2.0]}]
    assert vectors_in({"data": rows}, 2) == [[1.0], [2.0]]
    with pytest.raises(ValueError, match="different numbers"):
        vectors_in({"data": [*rows, {"embedding": [1.0, 2.0]}]}, 3)
    with pytest.raises(ValueError, match="not one for each"):
        vectors_in({"data": [{"index": 0, "embedding": [1.0]}] * 2}, 2)
