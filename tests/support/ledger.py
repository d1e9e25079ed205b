"""What a soak has stored, and the faults that it finds in the answers of the storage."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median

from preheat import Chunk, CollectionBusyError, ConnectError, DatabaseError, Hit, PreheatError
from preheat.pools import PoolStatistics

DIMENSIONS = 8
MOST_CHUNKS = 4
"""The most chunks of one document."""

EXPECTED_SQLSTATES = ("25006", "57014")
"""Causes of a :class:`DatabaseError` that faults explain: a server that only reads, and a statement out of time."""

COUNTERS = ("timeouts", "opened", "closed", "lost", "failed", "create_seconds", "waits", "wait_seconds")
"""The statistics of a pool that never fall."""


def chunks_of(number: int) -> list[Chunk]:
    """The chunks of a document: always the same for one number, and different from those of any other."""
    rng = random.Random(number)
    return [
        Chunk(
            f"chunk {position} of document {number}",
            [rng.gauss(0, 1) for _ in range(DIMENSIONS)],
            document=str(number),
            position=position,
            id=f"{number}.{position}",
        )
        for position in range(1 + number % MOST_CHUNKS)
    ]


class Ledger:
    """Keeps which documents must be in a storage, and which must not.

    A document is stored at most once and deleted at most once. A call that was cancelled or has failed may have
    taken effect, or may still do so, and such a document may be there or not: whole or not at all.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        """What was found wrong, a sentence each."""
        self.now: int = 0
        """How many writes were acknowledged so far: the time of the ledger."""
        self._issued = 0
        self._documents: dict[int, bool] = {}  # whether it is certain to be stored; without those that are deleted
        self._deleted: dict[int, int] = {}  # the time of each acknowledged deletion

    @property
    def stored(self) -> list[int]:
        """The documents that must be there."""
        return [number for number, certain in self._documents.items() if certain]

    def fault(self, sentence: str) -> None:
        """Take note of something wrong."""
        self.faults.append(sentence)

    def storing(self) -> int:
        """A new document is about to be stored; returns its number."""
        self._issued += 1
        self._documents[self._issued] = False
        return self._issued

    def has_stored(self, number: int, written: int) -> None:
        """The storage has acknowledged a document.

        Args:
            written: how many chunks it says it has written.
        """
        self.now += 1
        self._documents[number] = True
        if written != len(chunks_of(number)):
            self.fault(f"add says that it wrote {written} chunks of document {number}, not {len(chunks_of(number))}")

    def deleting(self, number: int) -> None:
        """A document is about to be deleted."""
        self._documents[number] = False

    def has_deleted(self, number: int, count: int) -> None:
        """The storage has acknowledged the deletion of a document that was stored.

        Args:
            count: how many chunks it says it has deleted.
        """
        self.now += 1
        del self._documents[number]
        self._deleted[number] = self.now
        if count != len(chunks_of(number)):
            self.fault(f"delete says that it deleted {count} chunks of document {number}, not {len(chunks_of(number))}")

    def check_hits(self, asked: Chunk, hits: Sequence[Hit], since: int, *, is_stored: bool) -> None:
        """Check the answer of a search.

        Args:
            asked: the chunk whose vector was searched for.
            since: the time of the ledger at which the search began.
            is_stored: whether this chunk was stored all the time.
        """
        if is_stored and (not hits or hits[0].id != asked.id):
            first = hits[0].id if hits else "nothing"
            self.fault(f"a search for the vector of the stored chunk {asked.id} found {first} first")
        for hit in hits:
            self._check_chunk(hit, since)

    def check_document(self, number: int, chunks: Sequence[Chunk]) -> None:
        """Check what was read of a document that must be there."""
        if sorted(chunk.id for chunk in chunks) != [chunk.id for chunk in chunks_of(number)]:
            self.fault(f"document {number} was acknowledged, and {len(chunks)} of its chunks are there")
        for chunk in chunks:
            self._check_chunk(chunk, self.now)

    def check_all(self, chunks: Iterable[Chunk]) -> None:
        """Check all that is stored, when nothing is under way any more."""
        found: Counter[int] = Counter()
        for chunk in chunks:
            found[int(chunk.document)] += 1
            self._check_chunk(chunk, self.now)
        for number, certain in self._documents.items():
            whole = len(chunks_of(number))
            if certain and found[number] != whole:
                self.fault(f"document {number} was acknowledged, and {found[number]} of its {whole} chunks are there")
            elif found[number] not in (0, whole):
                self.fault(f"document {number} is there in part: {found[number]} of its {whole} chunks")

    def _check_chunk(self, chunk: Hit | Chunk, since: int) -> None:
        number = int(chunk.document)
        same = [other for other in chunks_of(number) if other.id == chunk.id]
        if not 1 <= number <= self._issued or not same or same[0].text != chunk.text:
            self.fault(f"chunk {chunk.id} of document {number} was never stored with the text {chunk.text!r}")
        elif self._deleted.get(number, since + 1) <= since:
            self.fault(f"chunk {chunk.id} was found after its deletion was acknowledged")


def is_expected(error: Exception) -> bool:
    """Whether a caller has to reckon with an error while servers and networks fail."""
    if isinstance(error, ConnectError):
        return error.transient
    if isinstance(error, CollectionBusyError):
        return True
    return isinstance(error, DatabaseError) and error.sqlstate in EXPECTED_SQLSTATES


def name_of(error: Exception) -> str:
    """What a table calls an error: its class, and the SQLSTATE."""
    sqlstate = getattr(error, "sqlstate", None)
    name = type(error).__name__
    if not isinstance(error, PreheatError):
        return f"{type(error).__module__}.{name}"
    return f"{name} {sqlstate}" if sqlstate else name


def mistakes_of(now: PoolStatistics, before: PoolStatistics | None = None) -> list[str]:
    """What does not add up in the statistics of a pool.

    Args:
        now: the statistics.
        before: earlier ones of the same pool.
    """
    mistakes = []
    if now.opened != now.open + now.closed + now.lost:
        mistakes.append(f"{now.opened} were opened, but {now.open} open + {now.closed} closed + {now.lost} lost")
    if now.open + now.connecting > now.max:
        mistakes.append(f"{now.open} open + {now.connecting} connecting is more than {now.max}")
    if before is not None:
        earlier, later = before.as_dict(), now.as_dict()
        fell = (name for name in COUNTERS if later[name] < earlier[name])
        mistakes.extend(f"{name} fell from {earlier[name]} to {later[name]}" for name in fell)
    return mistakes


def growth(samples: Sequence[int]) -> int:
    """By how much samples have grown from their second quarter, after things have settled, to the last one."""
    quarter = max(1, len(samples) // 4)
    return round(median(samples[-quarter:]) - median(samples[quarter : 2 * quarter] or samples[:1]))
