"""The processor time of a server on this machine: what a search costs whoever runs the database.

Unlike a clock it hardly depends on what else the machine does.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psutil
from tests.support.server import Server


class ServerCPU:
    """The processor time of all processes of a server, those of its sessions included.

    A session that ends takes its time with it: measure between two moments of an open pool.
    """

    def __init__(self, server: Server) -> None:
        self._postmaster = int((server.folder / "postmaster.pid").read_text().split()[0])
        self._before = dict(self._times())

    def restart(self) -> None:
        """Count from now on."""
        self._before = dict(self._times())

    def milliseconds(self) -> float:
        """Milliseconds since the start."""
        return 1000 * sum(seconds - self._before.get(pid, 0.0) for pid, seconds in self._times())

    def _times(self) -> Iterator[tuple[int, float]]:
        for process in psutil.Process(self._postmaster).children():
            try:
                yield process.pid, _seconds(process)
            except (psutil.Error, OSError):
                continue  # it has just ended


def _seconds(process: psutil.Process) -> float:
    nanoseconds = Path(f"/proc/{process.pid}/schedstat")
    if nanoseconds.exists():  # on Linux; what psutil reads counts in hundredths of a second
        return int(nanoseconds.read_text().split()[0]) / 1e9
    times = process.cpu_times()
    return float(times.user + times.system)
