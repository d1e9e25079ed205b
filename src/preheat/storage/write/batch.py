"""A batch of chunks, and what has to be done with each of them, without I/O."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ...errors import ArgumentError
from ...pools import Row
from ..encoding.copy_format import copy_rows
from ..encoding.jsonb import metadata_json
from ..models import Chunk, Metric, VectorLike, VectorType
from ..validation import about, check_position, check_text
from .chunks import as_chunks


class Stored(NamedTuple):
    """The result of storing a batch: how many chunks of each kind."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class _Given:
    """A chunk, with the hash and the JSON that are compared with the stored ones."""

    chunk: Chunk
    index: int
    hash: str
    metadata: str


class Batch:
    """Chunks that are stored together, or not at all.

    The embedding belongs to the text: if the stored text is the same, the stored embedding stays, and none is needed. A
    chunk that is stored without an embedding is written again if it gets one now.

    Args:
        chunks: of two with the same id the later one counts.
        documents: the keys of the documents of which these chunks are the whole content; other chunks of them are
            deleted.
        embeds: whether chunks without an embedding are embedded before they are written.

    Raises:
        ArgumentError: if a text, a document, an id, a position or metadata cannot be stored.
    """

    def __init__(self, chunks: Iterable[Chunk], documents: Iterable[str] = (), *, embeds: bool = True) -> None:
        self._embeds = embeds
        self._given = {chunk.id: _given(chunk, index) for index, chunk in enumerate(as_chunks(chunks))}
        self.documents: frozenset[str] = frozenset(documents)
        for key in self.documents:
            check_text("key of a document", key)
        self._same: dict[str, tuple[bool, bool]] = {}
        self._stale: dict[str, str] = {}
        self._vectors: dict[str, VectorLike] = {}

    def __len__(self) -> int:
        return len(self._given)

    @classmethod
    def together(cls, batches: Iterable[Batch]) -> Batch:
        """One batch made of several that share no document and have not been looked up."""
        whole = cls(())
        for batch in batches:
            whole._given.update(batch._given)
            whole.documents |= batch.documents
        return whole

    def without(self, documents: Collection[str]) -> Batch:
        """A batch of the other documents, with what is known of them."""
        other = Batch((), embeds=self._embeds)
        other.documents = self.documents.difference(documents)
        other._given = {id: given for id, given in self._given.items() if given.chunk.document not in documents}
        other._same = {id: same for id, same in self._same.items() if id in other._given}
        other._stale = {id: document for id, document in self._stale.items() if document not in documents}
        other._vectors = self._vectors
        return other

    @property
    def to_embed(self) -> list[Chunk]:
        """The chunks that a model has to embed."""
        return [given.chunk for given in self._whole() if given.chunk.embedding is None]

    @property
    def given(self) -> list[Chunk]:
        """Its chunks."""
        return [given.chunk for given in self._given.values()]

    @property
    def keys(self) -> list[str]:
        """The keys of all documents that it changes, in the order in which they are locked."""
        return sorted(self.documents | {given.chunk.document for given in self._given.values()})

    def arguments(self) -> tuple[list[str], ...]:
        """The parameters of :func:`look_up <preheat.storage.write.sql.look_up>`."""
        return (*_columns(self._given.values()), list(self.documents))

    def learn(self, rows: Sequence[Row]) -> None:
        """Take in the rows of :func:`look_up <preheat.storage.write.sql.look_up>`."""
        self._same = {
            row["id"]: (row["same_text"] and (row["embedded"] or not self._has_vector(row["id"])), row["same_place"])
            for row in rows
            if row["same_text"] is not None
        }
        self._stale = {row["id"]: row["document"] for row in rows if row["same_text"] is None}

    @property
    def is_known(self) -> bool:
        """Whether any chunk of the batch or of its documents is stored."""
        return bool(self._same or self._stale)

    # What has to be done, by the latest look-up

    @property
    def is_stored(self) -> bool:
        """Whether everything is stored as it is given."""
        return not self._stale and all(self._is_same(id) for id in self._given)

    @property
    def missing(self) -> list[str]:
        """The texts that need a vector, each once; none if they are embedded later."""
        if not self._embeds:
            return []
        texts = (given.chunk.text for given in self._whole() if given.chunk.embedding is None)
        return [text for text in dict.fromkeys(texts) if text not in self._vectors]

    def take(self, texts: Sequence[str], vectors: Sequence[VectorLike]) -> None:
        """Take in the vectors of texts.

        Raises:
            ArgumentError: if there are not as many.
        """
        check_vectors(vectors, len(texts))
        self._vectors.update(zip(texts, vectors, strict=True))

    @property
    def writes(self) -> bool:
        """Whether any chunk is written as a whole row."""
        return any(True for _ in self._whole())

    def rows(self, dimensions: int, type: VectorType, metric: Metric | None) -> Iterator[bytes]:
        """The chunks that are written as whole rows, packed: those that are not stored, or stored with another text.
        Raises as :func:`copy_rows` does."""
        try:
            yield from copy_rows((self._embedded(given.chunk) for given in self._whole()), dimensions, type, metric)
        except ArgumentError as error:
            if error.chunk is not None:
                error.index = self._given[error.chunk].index
            raise

    def _embedded(self, chunk: Chunk) -> Chunk:
        if chunk.embedding is None and (vector := self._vectors.get(chunk.text)) is not None:
            return replace(chunk, embedding=vector)
        return chunk

    @property
    def gone(self) -> list[str]:
        """The ids of the rows to delete first: chunks of the documents that are not in the batch, and chunks whose text
        has changed."""
        return [*self._stale, *(id for id, (same_text, _) in self._same.items() if not same_text)]

    def moved(self) -> tuple[list[str], ...]:
        """The parameters of :func:`update <preheat.storage.write.sql.update>`: chunks with the same text, and another
        place or other metadata."""
        return _columns(given for id, given in self._given.items() if self._same.get(id) == (True, False))

    def settle(self) -> Stored:
        """Leave out the documents without a change, and return how many chunks they have."""
        busy = set(self._stale.values())
        busy |= {given.chunk.document for id, given in self._given.items() if not self._is_same(id)}
        before = len(self._given)
        self._given = {id: given for id, given in self._given.items() if given.chunk.document in busy}
        self._same = {id: same for id, same in self._same.items() if id in self._given}
        self.documents &= busy
        return Stored(unchanged=before - len(self._given))

    @property
    def outcome(self) -> Stored:
        """How many chunks of each kind there were."""
        unchanged = sum(self._is_same(id) for id in self._given)
        added = len(self._given) - len(self._same)
        return Stored(added, len(self._given) - added - unchanged, unchanged, len(self._stale))

    def _has_vector(self, id: str) -> bool:
        """Whether a chunk of the batch is written with an embedding."""
        return self._embeds or self._given[id].chunk.embedding is not None

    def _is_same(self, id: str) -> bool:
        return self._same.get(id) == (True, True)

    def _whole(self) -> Iterator[_Given]:
        return (given for id, given in self._given.items() if not self._same.get(id, (False, False))[0])


def check_vectors(vectors: Sequence[VectorLike], texts: int) -> None:
    """Raise :class:`ArgumentError` unless there are as many vectors as texts."""
    if len(vectors) != texts:
        raise ArgumentError(
            f"embed() gave {len(vectors)} vectors for {texts} texts; it must return one for each text, in order"
        )


def _given(chunk: Chunk, index: int) -> _Given:
    try:
        check_text("id", chunk.id)
        check_text("key of the document", chunk.document)
        check_position(chunk.position)
        text = check_text("text", chunk.text)
        return _Given(chunk, index, hashlib.sha256(text).hexdigest(), metadata_json(chunk).decode())
    except ArgumentError as error:
        raise about(error, chunk, index) from error.__cause__


def _columns(given: Iterable[_Given]) -> tuple[list[str], ...]:
    """Ids, hashes, documents, positions and metadata."""
    given = list(given)
    chunks = [one.chunk for one in given]
    return (
        [chunk.id for chunk in chunks],
        [one.hash for one in given],
        [chunk.document for chunk in chunks],
        [str(int(chunk.position)) for chunk in chunks],
        [one.metadata for one in given],
    )
