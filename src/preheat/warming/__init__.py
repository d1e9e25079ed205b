"""Warming: N connections at once, exactly once, never at the application's expense. Knows no driver and no SQL."""

from __future__ import annotations

from .engine import DEFAULT_CONNECTIONS, DEFAULT_TIMEOUT, ping, warm
from .once import WarmOnce
from .report import ConnectionReport, WarmReport

__all__ = ("DEFAULT_CONNECTIONS", "DEFAULT_TIMEOUT", "ConnectionReport", "WarmOnce", "WarmReport", "ping", "warm")
