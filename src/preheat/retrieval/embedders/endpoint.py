"""What is said to an endpoint of embeddings, and what its answers mean: plain functions."""

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
LONGEST_BODY = 4000
"""Characters of an answer in which its words are looked for."""

PASSING = (408, 409, 425, 429)
"""What may pass, besides 5xx: a request that took too long, met another, came too early, or was one too many."""
PASSING_WORDS = ("overloaded", "rate_limit", "server_error", "timeout", "too_many_requests", "unavailable")
"""What an error that may pass is called where it has no number."""
NO_MONEY = "insufficient_quota"


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


def read(content: bytes) -> Any:
    """The body of an answer: decoded JSON, or else text."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return content.decode(errors="replace")


def says_error(body: Any) -> bool:
    """Whether an answer with a good status tells of an error in its body, as some gateways do."""
    return isinstance(body, dict) and (bool(body.get("error")) or (body.get("object") == "error"))


def refusal(
    target: str, status: int, headers: Mapping[str, str], body: Any, now: float, hide: Callable[[str], str] = str
) -> EndpointError:
    """The error for an answer without embeddings.

    Args:
        target: the URL that was asked.
        status: its HTTP status.
        headers: its headers.
        body: what it said: decoded JSON, or text.
        now: seconds since the epoch.
        hide: takes secrets out of what it said.
    """
    words = shortened(body, hide)
    codes = list(_codes(body))
    numbers = [code for code in codes if isinstance(code, int)]
    meant = status if status >= 300 else next(iter(numbers), status)
    out_of_money = NO_MONEY in codes and (status < 300 or status == 429)
    passes = meant in PASSING or meant >= 500
    if status < 300 and not numbers:
        passes = any(word in code for code in codes if isinstance(code, str) for word in PASSING_WORDS)
    if 300 <= meant < 400:
        remedy = "give the address that it points to as base_url; redirects are not followed, as the key would go along"
    elif out_of_money:
        remedy = "pay for more; waiting does not help"
    else:
        remedy = REMEDIES.get(meant, "try again later" if passes else "check base_url and the model")
    return EndpointError(
        target,
        f"it answered with status {status}" + (f" and says: {words}" if words else ""),
        remedy,
        status=status,
        transient=passes and not out_of_money,
        retry_after=_seconds(headers.get("retry-after"), now),
    )


def shortened(body: Any, hide: Callable[[str], str] = str) -> str:
    """What an endpoint says, on one line, without secrets, and not too long."""
    words = _words(body, hide)
    words = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    if not any(map(str.isalnum, words)):
        return ""
    return words if len(words) <= LONGEST_REASON else words[:LONGEST_REASON] + "..."


def wait_of(error: Exception) -> bool | float:
    """Whether to try again after `error`, and if it says so, after how many seconds."""
    if not isinstance(error, EndpointError) or not error.transient:
        return False
    if error.retry_after is None:
        return True
    return error.retry_after <= LONGEST_WAIT and error.retry_after


def vectors_in(answer: Any, count: int) -> list[Numbers]:
    """The vectors of an answer, in the order of the texts: each row says by its `index` which text it is of.

    Raises:
        ValueError: if they are not `count` lists of finite numbers of one length; the message says what is wrong.
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
    """An answer without its vectors: where an endpoint may say why there are none, or why one is not what it should."""
    if not isinstance(answer, dict) or "data" not in answer:
        return answer
    rows = answer["data"] if isinstance(answer["data"], list) else [answer["data"]]
    errors = [row["error"] for row in rows if isinstance(row, dict) and row.get("error")]
    said = {name: answer[name] for name in answer if name in WORDS}
    return {**said, "errors": [said.get("errors"), *errors]} if said or errors else ""


def _places(rows: list[dict[str, Any]]) -> list[int]:
    """Which text each row is of; in their order if none of them says so.

    Raises:
        ValueError: if one of them does not say it with a whole number.
    """
    said = [row.get("index") for row in rows]
    if all(place is None for place in said):
        return list(range(len(rows)))
    places = [place for place in said if isinstance(place, int) and not isinstance(place, bool)]
    if len(places) < len(rows):
        raise ValueError("some of its embeddings have no index, or one that is not a whole number")
    return places


WORDS = (
    "error",
    "title",
    "message",
    "msg",
    "detail",
    "details",
    "errors",
    "reason",
    "description",
    "error_description",
)
"""Where endpoints say what is wrong."""


def _words(body: Any, hide: Callable[[str], str]) -> str:
    """What an endpoint says about an error, wherever it says it."""
    if isinstance(body, str):
        text = _plain(body, hide)
        return _TAG.sub(" ", text) if "<" in text else text
    if not isinstance(body, (dict, list)) or not body:
        return ""
    said = list(dict.fromkeys(_plain(words, hide).strip() for words in _all_words(body, 0)))
    kept = [words for words in said if not any(words != other and words in other for other in said)]
    return ": ".join(filter(None, kept)) or _plain(_as_json(body), hide)


def _plain(text: str, hide: Callable[[str], str]) -> str:
    """As much of a text as anybody reads, without secrets. They go before it is cut: half a secret is one, too."""
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
"""How deep, and at how many of a list, an endpoint's words are looked for."""


def _as_json(body: Any) -> str:
    try:
        return json.dumps(body, ensure_ascii=False)
    except (ValueError, RecursionError):
        return ""


_LIKE_A_KEY = re.compile(r"\bsk-[\w*.-]+")
_TAG = re.compile(r"<(?:style|script)\b[^<]*(?:</(?:style|script)>)?|<[^<>]*>")


def _codes(body: Any) -> Iterator[int | str]:
    """The numbers and names by which an endpoint classifies an error."""
    body = body[0] if isinstance(body, list) and body else body
    for part in (body.get("error"), body) if isinstance(body, dict) else ():
        for name in ("code", "status", "statusCode", "status_code", "type"):
            code = part.get(name) if isinstance(part, dict) else None
            if isinstance(code, str):
                code = int(code) if re.fullmatch("[1-5][0-9][0-9]", code) else code.lower()
            if isinstance(code, str) or (isinstance(code, int) and 300 <= code <= 599):
                yield code


def _seconds(retry_after: str | None, now: float) -> float | None:
    """What a `Retry-After` asks for: seconds, or a date; None if it cannot be read."""
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
