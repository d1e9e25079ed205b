"""The layout of SQL in this package: triple-quoted, indented as Python is, sent without that indentation."""

from __future__ import annotations

__all__ = ("sql_text",)


def sql_text(text: str) -> str:
    """A statement, or a part of one, without the indentation that its first line has in Python.

    Lines with less indentation, which come from parts that were dedented before, stay as they are.
    """
    text = text.lstrip("\n")
    margin = len(text) - len(text.lstrip(" "))
    return text[margin:].rstrip().replace("\n" + margin * " ", "\n")
