"""A meter's counts, asked for by a process that is measured through it. Standard library only."""

from __future__ import annotations

import json
import socket
from itertools import zip_longest


class RoundTrips:
    """The round trips of the connections of one pool, told by `tests.support.network.round_trip_meter`.

    Args:
        control: the meter's control port; 0 if there is no meter, and nothing is counted.
    """

    def __init__(self, control: int) -> None:
        self.counting = bool(control)
        self._meter = socket.create_connection(("127.0.0.1", control)).makefile("rwb") if control else None
        self._earlier = 0

    def new_pool(self) -> None:
        """Leave out the connections so far from now on: a closing pool may still say goodbye on them."""
        self._earlier = 0
        self._earlier = len(self.now())

    def now(self) -> list[int]:
        """Round trips of each connection so far, in the order of connecting."""
        if self._meter is None:
            return []
        self._meter.write(b"\n")
        self._meter.flush()
        round_trips: list[int] = json.loads(self._meter.readline())["round_trips"]
        return round_trips[self._earlier :]

    def since(self, then: list[int]) -> list[int]:
        """Round trips of each connection since :meth:`now` gave `then`."""
        return [now - before for now, before in zip_longest(self.now(), then, fillvalue=0)]
