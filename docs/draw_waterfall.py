"""Draw the picture of the home page, where the time of a first answer goes over a network of 20 ms."""

import re
import tempfile
from pathlib import Path

import anyio
from tests.support.server import running_server

from preheat.measure import html_page, measure
from preheat.testing import FaultyNetwork

PICTURE = Path(__file__).parent / "waterfall.svg"
ROUND_TRIP = 0.020
"""Seconds."""
LOOK = """
svg { --ink: #1c2024; --pale: #5b6470; --line: #d9dee4; font: 13px system-ui, sans-serif; background: #ffffff }
text { fill: var(--ink); paint-order: stroke; stroke: #ffffff; stroke-width: 5px }
.pale { fill: var(--pale) }
.grid { stroke: var(--line) }
.head { font-weight: 600; font-size: 15px }
"""


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="preheat-") as folder, running_server(Path(folder) / "data") as server:
        server.sql("CREATE EXTENSION vector")
        with FaultyNetwork(server.dsn()) as network:
            network.latency = ROUND_TRIP / 2
            measurement = await measure(network.dsn, rounds=5)
    (svg,) = re.findall("<svg.*</svg>", html_page(measurement), re.DOTALL)
    opening = f'<svg xmlns="http://www.w3.org/2000/svg"><style>{LOOK}</style>'
    PICTURE.write_text(
        re.sub("<svg( [^>]*)>", lambda found: opening.replace("<svg", f"<svg{found[1]}", 1), svg, count=1)
    )
    for answer in measurement.answers:
        print(f"{answer.after}: {1000 * answer.until_first:.1f} ms, {answer.round_trips_until_first} round trips")


if __name__ == "__main__":
    anyio.run(main)
