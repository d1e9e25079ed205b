"""Errors, with sentences that name the remedy.

Every error that preheat raises on purpose is a :class:`PreheatError`. Each leaf builds its own message from its
fields, so that a program can read the fields and a person the sentence.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager

__all__ = (
    "AccessError",
    "ArgumentError",
    "ChunkExistsError",
    "CollectionBusyError",
    "CollectionError",
    "CollectionMismatchError",
    "CollectionNotFoundError",
    "ConnectError",
    "DatabaseError",
    "DimensionError",
    "EmbeddedPostgresError",
    "EmbedderError",
    "EndpointError",
    "ExtensionError",
    "ExtractionError",
    "ItemError",
    "MissingExtraError",
    "PoolBusyError",
    "PreheatError",
)


class PreheatError(Exception):
    """The base of every error that preheat raises on purpose.

    Attributes:
        sqlstate: the five characters by which PostgreSQL classifies the cause, see
            https://www.postgresql.org/docs/current/errcodes-appendix.html; None if the server did not name one.
    """

    sqlstate: str | None = None


class ItemError(PreheatError):
    """An error that may be about one of several things: one chunk of a batch, or one question."""

    item: str | None = None
    """What the question is called in the message, or None."""
    document: str | None = None
    """The key of the document that it is about; None unless it is about one chunk of several."""
    chunk: str | None = None
    """The id of that chunk, or None."""
    position: int | None = None
    """The position of that chunk in its document, or None."""
    index: int | None = None
    """The index of that chunk in the batch that was given, 0 for the first, or None."""

    def __str__(self) -> str:
        if self.chunk is None:
            return f"{self.item}: {self._sentence()}" if self.item else self._sentence()
        of = f" of document {_shortened(self.document)}" if self.document else ""
        place = f" (index {self.index} of the batch)" if self.index is not None else ""
        return f"chunk {_shortened(self.chunk)}{of}{place}: {self._sentence()}"

    def _sentence(self) -> str:
        """The message without the name of the chunk."""
        return super().__str__()


class ArgumentError(ItemError, ValueError):
    """Invalid argument; raised before anything of it is stored."""


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else text[:99] + "…"


class DimensionError(ArgumentError):
    """A vector or a model has another number of dimensions than the collection.

    Attributes:
        expected: the collection's number of dimensions.
        got: the other number.
    """

    def __init__(self, expected: int, got: int) -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got

    def _sentence(self) -> str:
        return (
            f"the collection holds vectors of {self.expected} dimensions, not {self.got}; "
            f"use the model that its vectors come from, or a new collection with dimensions={self.got}"
        )


class ChunkExistsError(ItemError):
    """A chunk with the same id is stored already, and `on_conflict` is `"error"`; nothing of the batch was stored."""

    sqlstate: str | None = "23505"

    def _sentence(self) -> str:
        return (
            "the collection has a chunk with this id already; give another id, or store it with on_conflict='replace' "
            "or 'skip'"
        )


class ConnectError(PreheatError):
    """No connection to the database could be made, or it was lost.

    The driver's own error is the `__cause__`.

    Attributes:
        target: where to, as `host:port/database`; never a password.
        reason: what the driver or the server said.
        remedy: what to do about it.
        sqlstate: the cause, such as `"28P01"` for a wrong password; None if the server did not answer.
        transient: whether trying again later may help: the server is down or starting, takes no more clients, or cannot
            be reached. False for a wrong password, an unknown database, TLS, a missing privilege and the like.
    """

    def __init__(
        self, target: str, reason: str, remedy: str, *, sqlstate: str | None = None, transient: bool = False
    ) -> None:
        super().__init__(target, reason, remedy)
        self.transient = transient
        self.target = target
        self.reason = reason
        self.remedy = remedy
        self.sqlstate = sqlstate

    def __str__(self) -> str:
        return f"no connection to {self.target}: {self.reason}; {self.remedy}"


class PoolBusyError(ConnectError):
    """All connections of the pool were in use, or being opened, for as long as the caller would wait; or as many
    callers as may wait for one were waiting already. Try again later.

    Attributes:
        target: the pool's name.
        reason: what the pool was busy with.
        remedy: what to do about it.
        sqlstate: always None.
        transient: always true.
    """

    def __init__(self, target: str, reason: str, remedy: str) -> None:
        super().__init__(target, reason, remedy, transient=True)


class DatabaseError(PreheatError):
    """The server, or the driver, refused a statement.

    The driver's own error is the `__cause__`.

    Attributes:
        reason: what the server said.
        remedy: what to do about it.
        sqlstate: the cause, such as `"53100"` for a full disk; None for an error of the driver's.
    """

    def __init__(self, reason: str, remedy: str, *, sqlstate: str | None = None) -> None:
        super().__init__(reason, remedy)
        self.reason = reason
        self.remedy = remedy
        self.sqlstate = sqlstate

    def __str__(self) -> str:
        code = "" if self.sqlstate is None else f" ({self.sqlstate})"
        return f"{self.reason}{code}; {self.remedy}"


class CollectionError(PreheatError, LookupError):
    """A collection is missing, busy or not what the caller expects, or the role may not use it."""


class CollectionNotFoundError(CollectionError):
    """A collection, or a table that belongs to it, does not exist."""


class CollectionMismatchError(CollectionError):
    """A collection is not what the caller expects: it has another metric, type or language, lacks a column, or was
    made by a later release of preheat."""


class AccessError(DatabaseError, CollectionError):
    """The role lacks a privilege; the remedy is the SQL that grants it.

    Attributes:
        reason: what the server said.
        remedy: what to do about it.
        sqlstate: `"42501"`.
    """


class CollectionBusyError(DatabaseError, CollectionError):
    """Another transaction is in the way: a deadlock, a lock time-out, or a change that came first. Try again.

    Attributes:
        reason: what the server said.
        remedy: what to do about it.
        sqlstate: the cause, such as `"40P01"` for a deadlock; None if the server did not find the conflict.
    """


class EmbedderError(PreheatError):
    """The collection's vectors come from another model than the one in use.

    Attributes:
        collection: the collection's name.
        expected: the name of the model that its vectors come from.
        got: the name of the model in use.
    """

    def __init__(self, collection: str, expected: str, got: str) -> None:
        super().__init__(collection, expected, got)
        self.collection = collection
        self.expected = expected
        self.got = got

    def __str__(self) -> str:
        return (
            f"the vectors of collection {self.collection!r} come from the model {self.expected!r}, and {self.got!r} is "
            f"in use; use {self.expected!r}, or embed the collection again: preheat reembed --collection "
            f"{self.collection} --model ..."
        )


class EndpointError(ItemError):
    """A model behind HTTP gave no embeddings.

    If there was no answer at all, the HTTP client's own error is the `__cause__`.

    Attributes:
        target: the URL of the endpoint; never a key or a password.
        reason: what the endpoint said, or what went wrong.
        remedy: what to do about it.
        status: the HTTP status of the answer, or None if there was none.
        transient: whether trying again later may help.
        retry_after: how many seconds the endpoint asked to wait, or None.
    """

    def __init__(
        self,
        target: str,
        reason: str,
        remedy: str,
        *,
        status: int | None = None,
        transient: bool = False,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(target, reason, remedy)
        self.target = target
        self.reason = reason
        self.remedy = remedy
        self.status = status
        self.transient = transient
        self.retry_after = retry_after

    def _sentence(self) -> str:
        return f"no embeddings from {self.target}: {self.reason}; {self.remedy}"


class ExtensionError(PreheatError):
    """The database has no pgvector and this role cannot add it."""


class EmbeddedPostgresError(PreheatError):
    """The embedded PostgreSQL could not be started from its folder."""


class ExtractionError(PreheatError, ValueError):
    """A file has no text that could be stored: it is damaged, encrypted, of another format, or a picture.

    Attributes:
        name: the file's name.
        reason: the cause, as the rest of a sentence that begins with the name.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.name} {self.reason}"


class MissingExtraError(PreheatError, ImportError):
    """A feature needs an optional dependency that is not installed.

    Attributes:
        feature: what was asked for.
        extra: the extra of preheat that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(feature, extra)
        self.feature = feature
        self.extra = extra

    def __str__(self) -> str:
        return f"{self.feature} needs an optional part; install it with: pip install 'preheat[{self.extra}]'"


@contextmanager
def ungrouped() -> Generator[None]:
    """Raise a single exception of a task group by itself, not in an exception group."""
    sole: BaseException | None = None
    try:
        yield
    except BaseExceptionGroup as group:
        sole, *others = group.exceptions
        if others:
            raise
    if sole is not None:
        raise sole


_PASSWORD_IN_URL = re.compile(r"(://[^:/?#\s@]*:)[^@/\s]*@")
_PASSWORD_IN_WORDS = re.compile(r"(password\s*=\s*)('[^']*'|\S+)", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """`text` with the passwords of any DSN in it replaced by `***`."""
    return _PASSWORD_IN_WORDS.sub(r"\1***", _PASSWORD_IN_URL.sub(r"\1***@", text))


def describe(error: BaseException) -> str:
    """One line for logs and reports: the type and the message of `error`, without secrets."""
    words = without_secrets(" ".join(str(error).split()))
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
