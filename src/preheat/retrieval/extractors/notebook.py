"""Jupyter notebooks to Markdown: their text and code cells, without output."""

from __future__ import annotations

import json
import re
from typing import Any

from ...errors import ExtractionError
from .encodings import text_of

__all__ = ("read_notebook",)


def read_notebook(name: str, data: bytes) -> tuple[str, str]:
    """Convert a notebook to Markdown. The second value is its title, which may be empty.

    Raises:
        ExtractionError: if the file is not a notebook, or is damaged.
    """
    try:
        book = json.loads(text_of(name, data))
        cells = book["cells"] if "cells" in book else [cell for sheet in book["worksheets"] for cell in sheet["cells"]]
        about = book.get("metadata", {})
        language = str(about.get("language_info", {}).get("name", about.get("kernelspec", {}).get("language", "")))
        language = language if re.fullmatch(r"[\w+#-]{1,30}", language) else ""
        parts = [_cell(cell, language) for cell in cells]
        return "\n\n".join(part for part in parts if part), str(about.get("title", ""))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        if isinstance(error, ExtractionError):
            raise
        raise ExtractionError(name, "is not a Jupyter notebook, or a damaged one") from error


def _cell(cell: dict[str, Any], language: str) -> str:
    source = cell.get("source", cell.get("input", ""))
    text = (source if isinstance(source, str) else "".join(source)).strip("\n")
    if not text.strip() or cell["cell_type"] != "code":
        return text.strip()
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text}\n{fence}"
