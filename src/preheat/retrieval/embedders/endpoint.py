"""What is said to an endpoint of embeddings, and what its answers mean: plain functions."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ...errors import ArgumentError, EndpointError

__all__ = ("LONGEST_WAIT", "Bearer", "checked_key", "checked_url", "refusal", "vectors_in", "wait_of")

LONGEST_WAIT = 60.0
"""Seconds. An endpoint that asks to wait longer is not asked again."""

REMEDIES = {
    400: "check the model, its dimensions and the lengths of the texts",
    401: "give the endpoint's key as api_key, or in the environment variable OPENAI_API_KEY",
    403: "use a key that may use this model",
    404: "check base_url, which often ends in /v1, and the model",
    413: "give a smaller batch_size, or shorter texts",
    422: "check the model, its dimensions and the lengths of the texts",
    429: "ask less often, or for a higher limit",
}
LONGEST_REASON = 200
"""Characters of what an endpoint says."""


class Bearer:
    """Puts a key into a request; shown to nobody."""

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<Bearer ***>"

    def __call__(self, request: Any) -> Any:
        """What httpx calls for each request."""
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def hide(self, text: str) -> str:
        """`text` without the key."""
        return text.replace(self._key, "***")


def checked_key(key: str) -> str:
    """A key without the white space around it, as files and shells leave it there.

    Raises:
        ArgumentError: if no HTTP header can hold it. (An HTTP client would say so by quoting it.)
    """
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ArgumentError("the API key is empty or holds characters that no key has; copy it again")
    return key


def checked_url(base_url: str) -> str:
    """The address of an endpoint, without a slash at its end.

    Raises:
        ArgumentError: if it is no address over HTTP, or holds what may be a secret; the message does not quote it.
    """
    try:
        parts = urlsplit(base_url.strip())
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
        parts = urlsplit("")
    if not good or not base_url.strip().isprintable():
        raise ArgumentError("base_url is no address of an endpoint; give one like https://host/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise ArgumentError(
            "base_url has more than a host and a path, which may be secret and would be shown; "
            "give the key as api_key, or what else is needed by a client of your own"
        )
    return base_url.strip().rstrip("/")


def refusal(
    target: str, status: int, headers: Mapping[str, str], body: Any, now: float, hide: Callable[[str], str] = str
) -> EndpointError:
    """The error for an answer that is none.

    Args:
        target: the URL that was asked.
        status: its HTTP status.
        headers: its headers.
        body: what it said: decoded JSON, or text.
        now: seconds since the epoch.
        hide: takes secrets out of what it said.
    """
    words = " ".join(hide(_words(body)).split())  # before they are cut: half a secret is one, too
    if len(words) > LONGEST_REASON:
        words = words[:LONGEST_REASON] + "..."
    out_of_money = status == 429 and _code(body) == "insufficient_quota"
    if status < 400:
        remedy = "give the address that it points to as base_url; redirects are not followed, as the key would go along"
    elif out_of_money:
        remedy = "pay for more; waiting does not help"
    else:
        remedy = REMEDIES.get(status, "try again later" if status >= 500 else "check base_url and the model")
    return EndpointError(
        target,
        f"it answered with status {status}" + (f" and says: {words}" if words else ""),
        remedy,
        status=status,
        transient=(status == 429 or status >= 500) and not out_of_money,
        retry_after=_seconds(headers.get("retry-after"), now),
    )


def wait_of(error: Exception) -> bool | float:
    """Whether to try again after `error`, and if it says so, after how many seconds."""
    if not isinstance(error, EndpointError) or not error.transient:
        return False
    if error.retry_after is None:
        return True
    return error.retry_after <= LONGEST_WAIT and error.retry_after


def vectors_in(answer: Any, count: int) -> list[list[float]]:
    """The vectors of an answer, in the order of the texts: each row says by its `index` which text it is of.

    Raises:
        ValueError: if they are not `count` vectors of one length; the message says what is wrong.
    """
    rows = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("its answer has no list of embeddings")
    found = {row.get("index", place): row.get("embedding") for place, row in enumerate(rows)}
    if len(rows) != count or found.keys() != set(range(count)):
        raise ValueError(f"it gave {len(rows)} vectors for {count} texts, or not one for each")
    vectors = [found[place] for place in range(count)]
    if not all(isinstance(vector, list) and vector for vector in vectors):
        raise ValueError("its embeddings are no lists of numbers")
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError("its embeddings have different numbers of dimensions")
    return vectors


def _words(body: Any) -> str:
    """What an endpoint says about an error, wherever it says it."""
    if isinstance(body, dict):
        for name in ("error", "message", "detail"):
            if body.get(name):
                return _words(body[name])
        return ""
    return _LIKE_A_KEY.sub("***", str(body)) if isinstance(body, str) else ""


_LIKE_A_KEY = re.compile(r"\bsk-[\w*.-]+")


def _code(body: Any) -> Any:
    error = body.get("error") if isinstance(body, dict) else None
    return error.get("code") if isinstance(error, dict) else None


def _seconds(retry_after: str | None, now: float) -> float | None:
    """What a `Retry-After` asks for: seconds, or a date; None if it cannot be read."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - now)
    except (ValueError, OverflowError):
        return None
