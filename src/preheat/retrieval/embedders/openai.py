"""Models behind HTTP: any endpoint that speaks OpenAI's `/v1/embeddings`."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from ..._concurrency.offload import offloaded
from ...errors import ArgumentError, EndpointError, MissingExtraError, describe
from ...storage import check_text
from .endpoint import (
    Bearer,
    checked_key,
    checked_url,
    read,
    refusal,
    says_error,
    shortened,
    vectors_in,
    wait_of,
    without_vectors,
)
from .protocol import Embeddings

if TYPE_CHECKING:
    import httpx

__all__ = ("OpenAIEmbedder",)

OPENAI = "https://api.openai.com/v1"
DIMENSIONS = {"text-embedding-3-small": 1536, "text-embedding-3-large": 3072, "text-embedding-ada-002": 1536}
"""The dimensions of OpenAI's own models, from their documentation."""
CLOSE_SECONDS = 5.0
INLINE_BYTES = 32 * 1024
"""A response of up to so many bytes is read in the event loop: less than a millisecond."""


class OpenAIEmbedder:
    """Embeddings from OpenAI, or from any endpoint with its `/v1/embeddings` API.

    Inside `async with`, connections stay open from call to call. Without it, each call opens a new one. A request is
    repeated after an error that may be transient: the statuses 408, 409, 425, 429 and 5xx, also inside of a successful
    response, an endpoint that cannot be reached, and a timeout. A `Retry-After` of up to 60 seconds is honored. The
    class needs the extra `openai`.

    Args:
        model: the model's name, as the endpoint knows it.
        base_url: the URL of the endpoint without `/embeddings`; by default the environment variable
            `OPENAI_BASE_URL`, or else OpenAI's own.
        api_key: the key; by default the environment variable `OPENAI_API_KEY`, whatever the endpoint. `""` sends none.
            It is not shown in any message, log or representation.
        dimensions: asks the model for so many dimensions, which not every model supports. None leaves it to the model.
        batch_size: how many texts one request has.
        timeout: seconds for one request.
        attempts: how many times a request is sent at most.
        name: the name that collections remember; by default the model's name.
        client: an HTTP client of your own, for proxies or certificates. It stays open, and its timeouts apply as well.

    Raises:
        MissingExtraError: if the extra `openai` is not installed.
        ArgumentError: if an argument is out of range, or there is no key for OpenAI.
    """

    RETRY_SECONDS = 60.0
    """After so many seconds a request is not repeated any more."""

    def __init__(
        self,
        model: str,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        dimensions: int | None = None,
        batch_size: int = 64,
        timeout: float = 30.0,
        attempts: int = 5,
        name: str | None = None,
        client: httpx.AsyncClient | None = None,
    ) -> None:
        try:
            for library in ("httpx", "numpy", "stamina"):
                importlib.import_module(library)  # now, so that the first request need not wait for the imports
        except ImportError as error:
            raise MissingExtraError("OpenAIEmbedder", "openai") from error
        import httpx

        for what, number in {"batch_size": batch_size, "attempts": attempts, "dimensions": dimensions}.items():
            if number is not None and number < 1:
                raise ArgumentError(f"{what} is {number}; give at least 1")
        if not timeout > 0:
            raise ArgumentError(f"timeout is {timeout} seconds; give a request some time")
        if not model:
            raise ArgumentError("the model has no name; give one that the endpoint knows")
        self._url = checked_url(base_url or os.environ.get("OPENAI_BASE_URL", "").strip() or OPENAI)
        key = os.environ.get("OPENAI_API_KEY", "").strip() if api_key is None else api_key
        self._auth = Bearer(checked_key(key)) if key else None
        if self._auth is None and self._url == OPENAI and client is None:
            raise ArgumentError(f"{OPENAI} needs a key; give api_key, or set the environment variable OPENAI_API_KEY")
        self._model = model
        self._name = name or model
        self._asked_for = dimensions
        self._answered: int | None = None
        self._batch_size = batch_size
        self._timeout = timeout
        self._attempts = attempts
        self._client = client
        self._kept: httpx.AsyncClient | None = None
        self._tls = httpx.create_ssl_context() if client is None else True  # made once: it takes milliseconds

    def __repr__(self) -> str:
        return f"<OpenAIEmbedder {self._model!r} at {self._url}>"

    @property
    def name(self) -> str:
        """The model's identity, which collections remember."""
        return self._name

    @property
    def dimensions(self) -> int:
        """The number of dimensions of the vectors.

        Raises:
            ArgumentError: if it is not known before the model's first answer.
        """
        known = self.known_dimensions
        if known is None:
            raise ArgumentError(
                f"how many dimensions {self._model!r} has is known after its first answer; embed a text before you "
                "ask, or give your storage the number that the model's documentation says"
            )
        return known

    @property
    def known_dimensions(self) -> int | None:
        """The number of dimensions, or None before the first response if it is not known."""
        return self._answered or self._asked_for or DIMENSIONS.get(self._model)

    async def __aenter__(self) -> Self:
        if self._kept is not None:
            raise ArgumentError(f"{self!r} is open already; enter it once, or make one for each place")
        self._kept = self._new_client()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        kept, self._kept = self._kept, None
        if kept is not None:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await kept.aclose()

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """The vectors of `texts`, in order: shape `(len(texts), dimensions)`, float32.

        Raises:
            EndpointError: if the endpoint refuses, cannot be reached or does not answer, also at the last attempt.
            ArgumentError: if a text is not valid Unicode. Nothing is sent then.
        """
        import numpy as np

        texts = list(texts)
        for text in texts:
            check_text("text", text)
        if not texts:
            return np.empty((0, self.known_dimensions or 0), dtype=np.float32)
        batches = (texts[start : start + self._batch_size] for start in range(0, len(texts), self._batch_size))
        async with self._open() as client:
            return np.concatenate([await self._ask(client, batch) for batch in batches])

    def _new_client(self) -> httpx.AsyncClient:
        import httpx

        return httpx.AsyncClient(verify=self._tls, timeout=None)  # noqa: S113 - _post has the timeout

    @asynccontextmanager
    async def _open(self) -> AsyncGenerator[httpx.AsyncClient]:
        client = self._client or self._kept
        if client is not None:
            yield client
            return
        client = self._new_client()
        try:
            yield client
        finally:
            with anyio.move_on_after(CLOSE_SECONDS, shield=True):
                await client.aclose()

    async def _ask(self, client: httpx.AsyncClient, texts: list[str]) -> Embeddings:
        """The vectors of one batch; the request is repeated if that may help."""
        import stamina

        async for attempt in stamina.retry_context(wait_of, attempts=self._attempts, timeout=self.RETRY_SECONDS):
            with attempt:
                response = await self._post(client, texts)
                work = partial(self._read, response, len(texts))
                return await offloaded(work, size=len(response.content), inline=INLINE_BYTES)
        raise AssertionError("the last attempt returns or raises")

    async def _post(self, client: httpx.AsyncClient, texts: list[str]) -> httpx.Response:
        """Send one request."""
        import httpx

        body: dict[str, Any] = {"model": self._model, "input": texts, "encoding_format": "float"}
        if self._asked_for is not None:
            body["dimensions"] = self._asked_for
        more: dict[str, Any] = {} if self._auth is None else {"auth": self._auth}
        try:
            with anyio.fail_after(self._timeout):
                return await client.post(f"{self._url}/embeddings", json=body, follow_redirects=False, **more)
        except (TimeoutError, httpx.TimeoutException) as error:
            raise EndpointError(
                self._url,
                f"there was no answer within {self._timeout:g} s",
                "try again later, or give it a longer timeout or a smaller batch_size",
                transient=True,
            ) from error
        except httpx.RequestError as error:
            never = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.DecodingError)
            raise EndpointError(
                self._url,
                self._hide(describe(error)),
                "see that the endpoint runs and can be reached from here",
                transient=not isinstance(error, never),
            ) from error

    def _read(self, response: httpx.Response, count: int) -> Embeddings:
        """The vectors in a response.

        Raises:
            EndpointError: if the response is an error, or its vectors are invalid.
        """
        import numpy as np

        answer, status = read(response.content), response.status_code
        if not 200 <= status < 300 or says_error(answer):
            raise refusal(self._url, status, response.headers, answer, time.time(), self._hide)
        try:
            vectors = np.array(vectors_in(answer, count), dtype=np.float32)
        except ValueError as error:
            says = shortened(without_vectors(answer), self._hide)
            raise self._useless(status, f"{error}; it says: {says}" if says else str(error)) from None
        size, wanted = vectors.shape[1], self._asked_for or self._answered
        if size != (wanted or size):
            self._answered = None  # one of the two responses was wrong: let the next one decide
            raise self._useless(status, f"it gave {size} dimensions in place of {wanted}")
        self._answered = size
        return vectors

    def _useless(self, status: int, reason: str) -> EndpointError:
        remedy = "check base_url, the model, and whether the model can have the dimensions that you ask for"
        return EndpointError(self._url, self._hide(reason), remedy, status=status)

    def _hide(self, text: str) -> str:
        return text if self._auth is None else self._auth.hide(text)
