"""`preheat reembed`: a collection's texts, embedded again with another model."""

from __future__ import annotations

from ...retrieval import ReembedReport
from ...retrieval import reembed as embed_again
from ..console import escape, out, progress_bar, run, show
from ..database import open_storage
from ..models import model_of
from ..options import DEFAULT_MODEL, Collection, ModelOption, VectorTypeOption

__all__ = ("reembed",)


def reembed(where: Collection, model: ModelOption = DEFAULT_MODEL, vector_type: VectorTypeOption = None) -> None:
    """Embed a collection with another model, while it is searched and written to.

    The next run with the same model continues an interrupted one.
    """

    async def work() -> ReembedReport:
        embedder = model_of(model)
        async with open_storage(where) as storage:
            with progress_bar() as progress:
                task = progress.add_task("embedding")

                def update(report: ReembedReport) -> None:
                    total = report.chunks if report.stage in ("embedding", "catching up", "done") else None
                    progress.update(task, description=report.stage, total=total, completed=report.looked_at)

                return await embed_again(storage, embedder, vector_type=vector_type, progress=update)

    show(run(where.backend, work), _show_report, json=where.json)


def _show_report(report: ReembedReport) -> None:
    name, model = escape(report.collection), escape(report.embedder)
    out.print(
        f"collection [bold]{name}[/] is of {model} now, {report.dimensions} dimensions: "
        f"embedded {report.embedded:,} of {report.chunks:,} chunks in {report.seconds:.1f} s"
    )
