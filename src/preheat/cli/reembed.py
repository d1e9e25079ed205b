"""`preheat reembed`: a collection's texts, embedded again by another model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..retrieval import ReembedReport, reembed
from ..storage import VectorStorage, VectorType
from .console import database
from .ingest import progress_bar
from .models import model_of

__all__ = ("Reembed",)


@dataclass(frozen=True)
class Reembed:
    """One run of the command."""

    collection: str
    schema: str | None
    model: str
    vector_type: VectorType | None
    dsn: str | None
    data: Path | None

    async def run(self) -> ReembedReport:
        """Embed, with a bar for each stage."""
        embedder = model_of(self.model)
        async with database(self.dsn, self.data) as where:
            storage = VectorStorage(where, self.collection, schema=self.schema, size=1, warm="never")
            with progress_bar() as progress:
                task = progress.add_task("embedding")

                def show(report: ReembedReport) -> None:
                    total = report.chunks if report.stage in ("embedding", "catching up", "done") else None
                    progress.update(task, description=report.stage, total=total, completed=report.looked_at)

                async with storage:
                    return await reembed(storage, embedder, vector_type=self.vector_type, progress=show)
