"""A measurement as one page of HTML without outside assets: the waterfall as SVG, in light and dark."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from .records import PHASES, Answer, Measurement

__all__ = ("HEADINGS", "html_page")

HEADINGS = {
    "nothing": "Cold",
    "SELECT 1": "After SELECT 1",
    "warm-up": "After preheat's warm-up",
}
"""What people call the three answers."""

COLORS = {
    "acquire": "#94a3b8",
    "name resolution": "#14b8a6",
    "TCP": "#f59e0b",
    "TLS": "#a855f7",
    "log-in": "#ec4899",
    "set-up": "#64748b",
    "type look-ups": "#ef4444",
    "prepare": "#eab308",
    "first run": "#22c55e",
    "second run": "#3b82f6",
    "release": "#94a3b8",
}
LEFT, PLOT, RIGHT, ROW, HEAD = 130, 560, 150, 24, 34
WIDTH = LEFT + PLOT + RIGHT

STYLE = """\
:root { color-scheme: light dark; --ink: #1c2024; --pale: #5b6470; --line: #d9dee4; --page: #ffffff; --card: #f6f7f9 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ed; --pale: #9aa4b0; --line: #353c45; --page: #14171b; --card: #1d2127 }
}
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
main { max-width: 880px; margin: 0 auto; padding: 24px 20px 48px }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 4px; overflow-wrap: anywhere }
h2 { font-size: 18px; margin: 32px 0 8px }
p, li { max-width: 74ch }
.pale { color: var(--pale) }
.wide { overflow-x: auto }
svg { display: block; min-width: 620px; width: 100%; height: auto; font: 13px system-ui, sans-serif }
svg text { fill: var(--ink); paint-order: stroke; stroke: var(--page); stroke-width: 5px }
svg .pale { fill: var(--pale) }
svg .grid { stroke: var(--line) }
svg .head { font-weight: 600; font-size: 15px }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: 4px 10px; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap }
th:first-child, td:first-child { text-align: left; padding-left: 0 }
tr.sum td { font-weight: 600 }
pre { background: var(--card); padding: 10px 12px; border-radius: 6px; white-space: pre-wrap; overflow-wrap: anywhere }
"""


def html_page(measurement: Measurement) -> str:
    """The page as text. It has no scripts, loads nothing, and shows no password."""
    facts = ", ".join(measurement.facts())
    advice = "".join(f"<li>{escape(sentence)}</li>" for sentence in measurement.advice)
    notes = "".join(f"<p>{escape(note)}</p>" for note in measurement.notes)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Where a cold start goes: {escape(measurement.target)}</title>
<style>
{STYLE}</style>
</head>
<body>
<main>
<h1>Where a cold start goes: {escape(measurement.target)}</h1>
<p class="pale">{escape(facts)}</p>
{notes}
<div class="wide">
{"".join(_waterfall(measurement))}</div>
<h2>The phases</h2>
<div class="wide">
<table>
{"".join(_table(measurement.answers))}</table>
</div>
<h2>What to do</h2>
<ul>{advice}</ul>
<h2>The query</h2>
<pre>{escape(measurement.query)}</pre>
</main>
</body>
</html>
"""


def _waterfall(measurement: Measurement) -> Iterator[str]:
    """Three answers below each other, on one scale."""
    longest = max(answer.seconds for answer in measurement.answers)
    rows = [_rows(answer) for answer in measurement.answers]
    height = sum(HEAD + ROW * len(phases) + 10 for phases in rows)
    summary = "; ".join(
        f"{HEADINGS[answer.after]} {1000 * answer.until_first:.1f} ms" for answer in measurement.answers
    )
    yield f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="Time to the first rows. {escape(summary)}">\n'
    for part in range(5):
        x = LEFT + PLOT * part / 4
        yield f'<line class="grid" x1="{x:.1f}" y1="{HEAD}" x2="{x:.1f}" y2="{height}"/>\n'
        yield (
            f'<text class="pale" x="{x:.1f}" y="14" text-anchor="middle">{1000 * longest * part / 4:.0f} ms</text>\n'
        )
    top = 0
    for answer, phases in zip(measurement.answers, rows, strict=True):
        yield from _block(answer, phases, top + HEAD, longest)
        top += HEAD + ROW * len(phases) + 10
    yield "</svg>\n"


def _rows(answer: Answer) -> list[str]:
    """The phases that the answer has."""
    return [phase for phase in PHASES if any(part.phase == phase for part in answer.segments)]


def _block(answer: Answer, phases: list[str], top: int, longest: float) -> Iterator[str]:
    trips = _trips(answer.round_trips_until_first)
    yield f'<text class="head" x="0" y="{top}">{escape(HEADINGS[answer.after])}</text>\n'
    yield (
        f'<text x="{WIDTH}" y="{top}" text-anchor="end">first rows after '
        f"{1000 * answer.until_first:.1f} ms, {trips}</text>\n"
    )
    for row, phase in enumerate(phases):
        y = top + 8 + ROW * row
        yield f'<text x="0" y="{y + 15}">{phase}</text>\n'
        for part in answer.segments:
            if part.phase == phase:
                x, width = LEFT + PLOT * part.start / longest, max(1.5, PLOT * part.seconds / longest)
                yield (
                    f'<rect x="{x:.1f}" y="{y + 3}" width="{width:.1f}" height="{ROW - 7}" rx="2" '
                    f'fill="{COLORS[phase]}"><title>{phase}: {1000 * part.seconds:.2f} ms, '
                    f"{_trips(part.round_trips)}</title></rect>\n"
                )
        seconds, count = answer.of(phase)
        yield f'<text x="{WIDTH - 70}" y="{y + 15}" text-anchor="end">{1000 * seconds:.1f} ms</text>\n'
        if count:
            yield f'<text class="pale" x="{WIDTH}" y="{y + 15}" text-anchor="end">{count} RT</text>\n'


def _table(answers: tuple[Answer, ...]) -> Iterator[str]:
    heads = "".join(f"<th>{escape(HEADINGS[answer.after])}</th>" for answer in answers)
    yield f"<thead><tr><th>phase</th>{heads}</tr></thead>\n<tbody>\n"
    for phase in PHASES:
        if any(phase in _rows(answer) for answer in answers):
            cells = "".join(f"<td>{_cell(*answer.of(phase))}</td>" for answer in answers)
            yield f"<tr><td>{phase}</td>{cells}</tr>\n"
    cells = "".join(f"<td>{_cell(answer.seconds, answer.round_trips)}</td>" for answer in answers)
    yield f'<tr class="sum"><td>the whole</td>{cells}</tr>\n</tbody>\n'


def _cell(seconds: float, trips: int) -> str:
    return f"{1000 * seconds:.1f} ms" + (f" ({_trips(trips)})" if trips else "") if seconds else ""


def _trips(count: int) -> str:
    return "1 round trip" if count == 1 else f"{count} round trips"
