"""The records that a collection takes and returns."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import UUID

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    VectorLike: TypeAlias = Sequence[float] | NDArray[np.floating[Any]]
else:  # so that hints can be read without numpy
    VectorLike = Sequence[float] | Any
"""One embedding: a sequence of floats or a numpy array, of shape `(dimensions,)`."""

Metric: TypeAlias = Literal["cosine", "l2", "inner_product"]
"""The measure of how near two vectors are: cosine distance, Euclidean distance, or inner product."""

OnConflict: TypeAlias = Literal["replace", "skip", "error"]
"""What `add` does with a chunk whose id is stored already: replace the stored one, leave it as it is, or store nothing
and raise :class:`preheat.ChunkExistsError`."""

VectorType: TypeAlias = Literal["vector", "halfvec"]
"""How pgvector stores a vector: `vector` as float32, `halfvec` as float16, in half the space."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of text, and its embedding if it has one already."""

    text: str
    """The text itself."""
    embedding: VectorLike | None = field(default=None, compare=False, repr=False)
    """Its embedding, of shape `(dimensions,)`. None if it is embedded when it is stored or later, or was read without
    its embedding."""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Any JSON object."""
    document: str = ""
    """The key of the document that the text is from, such as a path."""
    position: int = 0
    """Where the chunk stands in its document: 0 for the first."""
    id: str = ""
    """Its identity in the collection, a text; a UUID becomes one. By default it is derived from document and text, so
    that the same text of the same document replaces the chunk when it is stored again. If a document has a text several
    times in one batch, each after the first, in the order of the positions, gets an id of its own."""

    if TYPE_CHECKING:  # a reader of the attribute gets a string, also if the id was given as a UUID

        def __init__(
            self,
            text: str,
            embedding: VectorLike | None = None,
            metadata: Mapping[str, Any] = ...,
            document: str = "",
            position: int = 0,
            id: str | UUID = "",
        ) -> None: ...

    def __post_init__(self) -> None:
        if isinstance(self.id, UUID):
            object.__setattr__(self, "id", str(self.id))
        if not self.id:
            object.__setattr__(self, "id", derived_id(self.document, self.text))


def derived_id(document: str, text: str, occurrence: int = 1) -> str:
    """The id of a chunk without one: the same for the same text, which is counted within its document."""
    counted = "" if occurrence == 1 else f"\0{occurrence}"
    digest = hashlib.sha256(f"{document}\0{text}{counted}".encode(errors="surrogatepass")).hexdigest()
    return digest[:32]


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a search found."""

    id: str
    """The chunk's identity."""
    text: str
    """The chunk's text."""
    score: float
    """Higher is better: `1 - distance` for cosine, `1 / (1 + distance)` for l2, the inner product itself. In a hybrid
    search the sum of `1 / (60 + rank)` over the ranks that it has."""
    distance: float
    """Lower is better: pgvector's own figure, which for the inner product is its negative. A NaN if the chunk has no
    embedding, or the search was one by words alone."""
    document: str
    """The key of the document that the chunk is from."""
    position: int
    """Where the chunk stands in its document."""
    metadata: Mapping[str, Any] = field(hash=False)
    """The chunk's metadata."""
    vector_rank: int | None = None
    """In a hybrid search its place among the candidates by vector: 1 for the first, None if it is not one of them."""
    text_rank: int | None = None
    """In a hybrid search its place among the candidates by words: 1 for the first, None if it is not one of them."""

    @property
    def offsets(self) -> tuple[int, int] | None:
        """Where the text begins and ends in its document, in characters, by `metadata["start"]`; None without that."""
        start = self.metadata.get("start")
        if not isinstance(start, int) or isinstance(start, bool) or start < 0:
            return None
        return start, start + len(self.text)

    def as_dict(self) -> dict[str, Any]:
        """The hit for logs and JSON; the ranks if it was found by a hybrid search."""
        ranks = {"vector_rank": self.vector_rank, "text_rank": self.text_rank}
        return {
            "id": self.id,
            "score": self.score,
            "distance": None if math.isnan(self.distance) else self.distance,
            **({} if self.vector_rank is None and self.text_rank is None else ranks),
            "document": self.document,
            "position": self.position,
            "metadata": dict(self.metadata),
            "text": self.text,
        }


@dataclass(frozen=True, slots=True)
class Upserted:
    """The result of an upsert: how many chunks of each kind."""

    added: int
    """How many were not stored before."""
    changed: int
    """How many were stored with another text, other metadata or in another place."""
    unchanged: int
    """How many were stored as they are; they were not written."""

    def as_dict(self) -> dict[str, int]:
        """The record for logs and JSON."""
        return {"added": self.added, "changed": self.changed, "unchanged": self.unchanged}


@dataclass(frozen=True, slots=True)
class DocumentInfo:
    """One document of a collection."""

    key: str
    """The key of the document."""
    chunks: int
    """How many chunks it has."""

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        return {"key": self.key, "chunks": self.chunks}


@dataclass(frozen=True, slots=True)
class ValueCount:
    """A value in the metadata of a collection's chunks."""

    value: Any
    """The value; a time is its text."""
    chunks: int
    """How many chunks have it."""

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON."""
        return {"value": self.value, "chunks": self.chunks}


class Hits(list[Hit]):
    """The hits of a search, best first: a list that also tells whether it is complete."""

    __slots__ = ("is_complete",)

    def __init__(self, hits: Iterable[Hit] = (), *, is_complete: bool = True) -> None:
        super().__init__(hits)
        self.is_complete: bool = is_complete
        """Whether there are as many hits as were asked for, or the collection has no more. False if the scan of the
        index ended too early, because the caller's own `ef_search` was less than `k`."""


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """The description of one collection in the database."""

    name: str
    """The collection's name."""
    dimensions: int
    """The number of dimensions of its vectors."""
    metric: Metric
    """The metric that its index serves."""
    embedder: str | None
    """The name of the model that its vectors come from, if it is known."""
    created_at: datetime
    """When it was created."""
    chunks: int
    """How many chunks it holds."""
    bytes: int
    """The size of its table and indexes, in bytes."""
    missing: str | None = None
    """What is missing, and the remedy, if the table of the collection is gone; None if the table is there."""

    def as_dict(self) -> dict[str, Any]:
        """The record for JSON; the time as ISO 8601."""
        return {
            "name": self.name,
            "dimensions": self.dimensions,
            "metric": self.metric,
            "embedder": self.embedder,
            "created_at": self.created_at.isoformat(),
            "chunks": self.chunks,
            "bytes": self.bytes,
        }
