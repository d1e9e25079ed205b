"""Check the arguments of an endpoint of embeddings, and read its responses: plain functions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ...errors import ArgumentError, EndpointError
from ...storage import Numbers
from .vectors import vector_of

__all__ = (
    "LONGEST_WAIT",
    "Bearer",
    "checked_key",
    "checked_url",
    "read",
    "refusal",
    "says_error",
    "shortened",
    "vectors_in",
    "wait_of",
    "without_vectors",
)

LONGEST_WAIT = 60.0
"""Seconds. If an endpoint asks for a longer wait, the request is not repeated."""

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
"""The most characters of an endpoint's message in an error."""
LONGEST_BODY = 4000
"""The most characters of a response that are searched for a message."""

TRANSIENT = (408, 409, 425, 429)
"""Transient statuses besides 5xx: a request timed out, met another, was too early, or was one too many."""
TRANSIENT_CODES = ("overloaded", "rate_limit", "server_error", "timeout", "too_many_requests", "unavailable")
"""The names of transient errors that have no number."""
NO_MONEY = "insufficient_quota"


class Bearer:
    """Puts the key into a request, and shows it nowhere."""

    __slots__ = ("_key",)

    def __init__(self, key: str) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<Bearer ***>"

    def __call__(self, request: Any) -> Any:
        """httpx calls this for each request."""
        request.headers["Authorization"] = f"Bearer {self._key}"
        return request

    def hide(self, text: str) -> str:
        """`text` without the key."""
        return text.replace(self._key, "***")


def checked_key(key: str) -> str:
    """The key without white space around it, which files and shells leave there.

    Raises:
        ArgumentError: if an HTTP header cannot hold the key. The error of an HTTP client would quote the key.
    """
    key = key.strip()
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ArgumentError("the API key is empty or holds characters that no key has; copy it again")
    return key


def checked_url(base_url: str) -> str:
    """The URL of an endpoint, without a slash at its end.

    Raises:
        ArgumentError: if it is not a URL of HTTP, or may contain a secret. The message does not quote it.
    """
    try:
        parts = urlsplit(base_url.strip())
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
        parts = urlsplit("")
    if not good or not base_url.strip().isprintable():
        raise ArgumentError("base_url is not the URL of an endpoint; give one like https://host/v1")
    if parts.username is not None or parts.query or parts.fragment:
        raise ArgumentError(
            "base_url has more than a host and a path, which may be secret and would be shown; "
            "give the key as api_key, or what else is needed by a client of your own"
        )
    return base_url.strip().rstrip("/")


def read(content: bytes) -> Any:
    """The body of a response: decoded JSON, or text if it is not JSON."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.decode(errors="replace")


def says_error(body: Any) -> bool:
    """Whether the body of a response is an error. Some gateways send errors with the status 200."""
    return isinstance(body, dict) and (bool(body.get("error")) or (body.get("object") == "error"))


def refusal(
    target: str, status: int, headers: Mapping[str, str], body: Any, now: float, hide: Callable[[str], str] = str
) -> EndpointError:
    """The error for a response without embeddings.

    Args:
        target: the URL of the endpoint.
        status: the HTTP status of the response.
        headers: the headers of the response.
        body: the body of the response: decoded JSON, or text.
        now: seconds since the epoch.
        hide: removes secrets from a text.
    """
    words = shortened(body, hide)
    codes = list(_codes(body))
    numbers = [code for code in codes if isinstance(code, int)]
    meant = status if status >= 300 else next(iter(numbers), status)
    out_of_money = NO_MONEY in codes and (status < 300 or status == 429)
    is_transient = meant in TRANSIENT or meant >= 500
    if status < 300 and not numbers:
        is_transient = any(word in code for code in codes if isinstance(code, str) for word in TRANSIENT_CODES)
    if 300 <= meant < 400:
        remedy = "give the address that it points to as base_url; redirects are not followed, as the key would go along"
    elif out_of_money:
        remedy = "pay for more; waiting does not help"
    else:
        remedy = REMEDIES.get(meant, "try again later" if is_transient else "check base_url and the model")
    return EndpointError(
        target,
        f"it answered with status {status}" + (f" and says: {words}" if words else ""),
        remedy,
        status=status,
        transient=is_transient and not out_of_money,
        retry_after=_seconds(headers.get("retry-after"), now),
    )


def shortened(body: Any, hide: Callable[[str], str] = str) -> str:
    """The message of an endpoint on one line, without secrets, and not too long."""
    words = _words(body, hide)
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    if not any(map(str.isalnum, words)):
        return ""
    return words if len(words) <= LONGEST_REASON else words[:LONGEST_REASON] + "..."


def wait_of(error: Exception) -> bool | float:
    """Whether to repeat the request after `error`; the seconds to wait, if the endpoint gives them."""
    if not isinstance(error, EndpointError) or not error.transient:
        return False
    if error.retry_after is None:
        return True
    return error.retry_after <= LONGEST_WAIT and error.retry_after


def vectors_in(answer: Any, count: int) -> list[Numbers]:
    """The vectors of a response, in the order of the texts. The `index` of a row is the index of its text.

    Raises:
        ValueError: if they are not `count` lists of finite numbers of one length. The message gives the reason.
    """
    rows = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("its answer has no list of embeddings")
    found = dict(zip(_places(rows), (row.get("embedding") for row in rows), strict=True))
    if len(rows) != count or found.keys() != set(range(count)):
        raise ValueError(f"it gave {len(rows)} vectors for {count} texts, or not one for each")
    vectors: list[Numbers] = []
    for place in range(count):
        if not isinstance(found[place], list):
            kind = "strings, base64 perhaps" if isinstance(found[place], str) else "of another kind"
            raise ValueError(  # noqa: TRY004
                f"its embeddings are no lists of numbers, which it was asked for, but {kind}"
            )
        try:
            vectors.append(vector_of(found[place]))
        except ValueError as error:
            raise ValueError(f"its embedding of text {place + 1} of {count} cannot be used: {error}") from None
    if len({len(vector) for vector in vectors}) > 1:
        raise ValueError("its embeddings have different numbers of dimensions")
    return vectors


def without_vectors(answer: Any) -> Any:
    """A response without its vectors, to search for the reason why a vector is missing or invalid."""
    if not isinstance(answer, dict) or "data" not in answer:
        return answer
    rows = answer["data"] if isinstance(answer["data"], list) else [answer["data"]]
    errors = [row["error"] for row in rows if isinstance(row, dict) and row.get("error")]
    said = {name: answer[name] for name in answer if name in WORDS}
    return {**said, "errors": [said.get("errors"), *errors]} if said or errors else ""


def _places(rows: list[dict[str, Any]]) -> list[int]:
    """The index of the text of each row; the order of the rows if no row has an index.

    Raises:
        ValueError: if only some rows have an index, or an index is not a whole number.
    """
    said = [row.get("index") for row in rows]
    if all(place is None for place in said):
        return list(range(len(rows)))
    places = [place for place in said if isinstance(place, int) and not isinstance(place, bool)]
    if len(places) < len(rows):
        raise ValueError("some of its embeddings have no index, or one that is not a whole number")
    return places


WORDS = (
    *("error", "title", "message", "msg", "detail", "details", "errors", "reason"),
    *("description", "error_description"),
)
"""The members in which endpoints put their error messages."""


def _words(body: Any, hide: Callable[[str], str]) -> str:
    """The message of an endpoint, in whatever member of the body it is."""
    if isinstance(body, str):
        text = _plain(body, hide)
        return _TAG.sub(" ", text) if "<" in text else text
    if not isinstance(body, (dict, list)) or not body:
        return ""
    said = list(dict.fromkeys(_plain(words, hide).strip() for words in _all_words(body, 0)))
    kept = [words for words in said if not any(words != other and words in other for other in said)]
    return ": ".join(filter(None, kept)) or _plain(_as_json(body), hide)


def _plain(text: str, hide: Callable[[str], str]) -> str:
    """The beginning of a text, without secrets. They are removed first, because half a secret is a secret, too."""
    return _LIKE_A_KEY.sub("***", hide(text))[:LONGEST_BODY]


def _all_words(body: Any, depth: int) -> Iterator[str]:
    if isinstance(body, str):
        yield body
    elif isinstance(body, list) and depth < DEEPEST:
        for one in body[:MOST_ERRORS]:
            yield from _all_words(one, depth + 1)
    elif isinstance(body, dict) and depth < DEEPEST:
        lower = {name.lower(): value for name, value in body.items() if isinstance(name, str)}
        where = lower.get("loc")  # of FastAPI: which field is meant
        if isinstance(where, list) and isinstance(lower.get("msg"), str):
            yield f"{'.'.join(map(str, where))} {lower['msg']}"
            return
        for name in WORDS:
            yield from _all_words(lower.get(name), depth + 1)


DEEPEST, MOST_ERRORS = 5, 5
"""How deep in a body, and in how many items of a list, a message is searched."""


def _as_json(body: Any) -> str:
    try:
        return json.dumps(body, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""


_LIKE_A_KEY = re.compile(r"\bsk-[\w*.-]+")
_TAG = re.compile(r"<(?:style|script)\b[^<]*(?:</(?:style|script)>)?|<[^<>]*>")


def _codes(body: Any) -> Iterator[int | str]:
    """The numbers and names of an error."""
    body = body[0] if isinstance(body, list) and body else body
    for part in (body.get("error"), body) if isinstance(body, dict) else ():
        for name in ("code", "status", "statusCode", "status_code", "type"):
            code = part.get(name) if isinstance(part, dict) else None
            if isinstance(code, str):
                code = int(code) if re.fullmatch("[1-5][0-9][0-9]", code) else code.lower()
            if isinstance(code, str) or (isinstance(code, int) and 300 <= code <= 599):
                yield code


def _seconds(retry_after: str | None, now: float) -> float | None:
    """The seconds of a `Retry-After` header, which may be a date; None if it cannot be read."""
    if not retry_after:
        return None
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        date = parsedate_to_datetime(retry_after)
        return max(0.0, (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now)
    except (ValueError, OverflowError):
        return None
