"""Write the table of the reference on DSNs from the code: `python -m docs.write_parameters`."""

from __future__ import annotations

from pathlib import Path

from preheat.pools.dsn.words import WORDS, Word

PAGE = Path(__file__).parent / "reference" / "dsn" / "parameters.md"


def table() -> str:
    """The parameters, one row each."""
    rows = ["| parameter | variable | preheat | what it does |", "| --- | --- | --- | --- |"]
    for word in WORDS.values():
        variable = f"`{word.variable}`" if word.variable else ""
        remedy = f" Instead: {word.remedy}." if word.remedy and word.harmless != ("*",) else ""
        rows.append(f"| `{word.name}` | {variable} | {_treatment(word)} | {word.effect}{remedy} |")
    return "\n".join(rows) + "\n"


def _treatment(word: Word) -> str:
    if not word.remedy:
        return "honored"
    if word.harmless == ("*",):
        return "dropped"
    if word.harmless:
        return f"refused; {' or '.join(f'`{value}`' for value in word.harmless)} is dropped"
    return "refused"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(table(), encoding="utf-8")
