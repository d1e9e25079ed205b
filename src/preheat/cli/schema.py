"""`preheat schema`: what makes a collection, printed or run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..storage import CollectionInfo, Metric, VectorStorage, VectorType, collections, schema_script
from .console import database
from .models import dimensions_of, model_of

__all__ = ("Schema",)


@dataclass(frozen=True)
class Schema:
    """One run of the command."""

    collection: str
    schema: str | None
    model: str
    dimensions: int | None
    """None for those of the model."""
    metric: Metric | None
    vector_type: VectorType | None
    language: str | None
    extension: str | None
    answers: bool

    async def script(self) -> str:
        """The SQL; it names the model unless dimensions were given."""
        model = None if self.dimensions is not None else model_of(self.model)
        return schema_script(
            self.collection,
            self.dimensions or 0 if model is None else await dimensions_of(model),
            metric=self.metric or "cosine",
            embedder=None if model is None else model.name,
            schema=self.schema,
            vector_type=self.vector_type,
            language=self.language or "english",
            extension=self.extension,
            answers=self.answers,
        )

    async def apply(self, dsn: str | None, data: Path | None) -> CollectionInfo:
        """Make the collection, or bring it up to date as it is, with all indexes."""
        async with database(dsn, data) as where:
            there = {info.name for info in await collections(where, self.schema)}
            dimensions, model = self.dimensions, None
            if dimensions is None and self.collection not in there:
                model = model_of(self.model)
                dimensions = await dimensions_of(model)
            storage = VectorStorage(
                where,
                self.collection,
                dimensions,
                metric=self.metric,
                embedder=None if model is None else model.name,
                schema=self.schema,
                vector_type=self.vector_type,
                language=self.language,
                size=1,
                warm="never",
            )
            async with storage:
                await storage.create()
                await storage.create_index()
                if self.answers:
                    await storage.answer_table.create()
            infos = await collections(where, self.schema)
        return next(info for info in infos if info.name == self.collection)
