"""A network on loopback: a server in a thread, a forwarder, and a network with faults."""

from __future__ import annotations

from .faulty import FaultyNetwork

__all__ = ("FaultyNetwork",)
