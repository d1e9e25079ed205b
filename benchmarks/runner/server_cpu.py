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

    The time of a session that ends, and of a worker of one, is added in hundredths of a second.
    """

    def __init__(self, server: Server) -> None:
        self._postmaster = int((server.folder / "postmaster.pid").read_text().split()[0])
        self._before = dict(self._times())

    def restart(self) -> None:
        """Count from now on."""
        self._before = dict(self._times())

    def milliseconds(self) -> float:
        """Milliseconds since the start."""
        now = dict(self._times())
        gone = sum(seconds for pid, seconds in self._before.items() if pid not in now)
        return 1000 * (sum(seconds - self._before.get(pid, 0.0) for pid, seconds in now.items()) - gone)

    def _times(self) -> Iterator[tuple[int, float]]:
        ended = psutil.Process(self._postmaster).cpu_times()
        yield self._postmaster, ended.children_user + ended.children_system
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
