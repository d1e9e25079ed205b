"""Embed chunks that were stored without an embedding."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any

from ...errors import ArgumentError
from ..encoding.vectors import check_vector, query_text
from ..executor import Executor, rerun
from ..models import Chunk
from ..validation import about
from . import changing
from . import sql as statements
from .batch import check_vectors
from .loading import Embed


async def embed_missing(executor: Executor, embed: Embed, batch_size: int) -> int:
    """See :meth:`preheat.VectorStorage.embed_missing`.

    No lock and no connection is held while the model works. A vector is written if its chunk still has the text and no
    embedding, and the table is still the one whose model was checked.
    """
    if not 1 <= batch_size < 2**31:
        raise ArgumentError(f"batch_size is {batch_size}; give the model at least 1 text at a time")
    await executor.create()
    embedded, last = 0, ""
    while True:
        page = (batch_size, last) if last else (batch_size,)
        rows = await executor.fetch(partial(statements.not_embedded, first=not last), *page)
        if rows:
            chunks = [Chunk(row["text"], None, {}, row["document"], row["position"], row["id"]) for row in rows]
            vectors = await embed([chunk.text for chunk in chunks])
            embedded += await _write(executor, chunks, vectors)
        if len(rows) < batch_size:
            return embedded
        last = rows[-1]["id"]


async def _write(executor: Executor, chunks: Sequence[Chunk], vectors: Sequence[Any]) -> int:
    check_vectors(vectors, len(chunks))
    known = executor.collection
    texts: list[str] = []
    for chunk, vector in zip(chunks, vectors, strict=True):
        try:
            check_vector(vector, known.dimensions or 0, known.stored_as, known.metric or "cosine")
            texts.append(query_text(vector, known.dimensions))
        except ArgumentError as error:
            raise about(error, chunk) from error.__cause__
    ids = [chunk.id for chunk in chunks]
    hashes = [hashlib.sha256(chunk.text.encode()).hexdigest() for chunk in chunks]

    async def run(alone: bool) -> int:
        embed = partial(changing.embed, known, ids=ids, hashes=hashes, vectors=texts, alone=alone)
        return await executor.run(embed)

    return await rerun(run, executor.make)
