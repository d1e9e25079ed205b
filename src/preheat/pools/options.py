"""What a pool can be told: the options of :func:`preheat.open_pool`."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypeVar

from ..errors import ArgumentError
from ..settings import setting
from .statistics import PoolHook

__all__ = (
    "ACQUIRE_SECONDS",
    "Password",
    "PoolOptions",
    "Prepare",
    "ServerKind",
    "check_options",
    "check_size",
    "given",
    "prepare_of",
)

T = TypeVar("T")
D = TypeVar("D")

ACQUIRE_SECONDS = 30.0
"""How long a caller waits for a connection by default."""

Prepare: TypeAlias = Literal["auto"] | bool
"""Whether statements are prepared under a name."""

ServerKind: TypeAlias = Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]
"""The servers that a pool may use: libpq's `target_session_attrs`."""

LEAST_LAG = 1.0
"""The least `max_replica_lag`, in seconds: a pool looks at its servers four times in that time."""

Password: TypeAlias = str | Callable[[], str] | Callable[[], Awaitable[str]]
"""The password, or a function that returns it."""


@dataclass(frozen=True, kw_only=True)
class PoolOptions:
    """The options of one pool, checked.

    Raises:
        ArgumentError: if one of them is invalid.
    """

    name: str
    size: int = 10
    connect_timeout: float = 10.0
    acquire_timeout: float = ACQUIRE_SECONDS
    statement_timeout: float | None = None
    max_waiting: int | None = None
    max_lifetime: float | None = None
    max_idle: float | None = None
    max_replica_lag: float | None = None
    prepare: Prepare = "auto"
    application_name: str = "preheat"
    password: Password | None = None
    connect: Callable[..., Awaitable[Any]] | None = None
    init: Callable[[Any], Awaitable[object]] | None = None
    hooks: tuple[PoolHook, ...] = ()

    def __post_init__(self) -> None:
        check_size(self.size)
        for word in ("connect_timeout", "acquire_timeout", "statement_timeout", "max_lifetime", "max_idle"):
            seconds = getattr(self, word)
            if seconds is not None and not (seconds > 0 and not math.isnan(seconds)):
                raise ArgumentError(f"{word} is {seconds}; give a positive number of seconds")
        if self.max_replica_lag is not None and not self.max_replica_lag >= LEAST_LAG:
            raise ArgumentError(
                f"max_replica_lag is {self.max_replica_lag}; give at least {LEAST_LAG:g} second, or None for no limit"
            )
        if self.max_waiting is not None and self.max_waiting < 0:
            raise ArgumentError(f"max_waiting is {self.max_waiting}; give 0 or more callers, or None for any number")
        if self.prepare not in ("auto", True, False):
            raise ArgumentError(f"prepare is {self.prepare!r}; give 'auto', True or False")


def check_options(**options: Any) -> None:
    """Raise :class:`ArgumentError` unless a pool can have these options."""
    PoolOptions(name="", **options)


def check_size(size: int) -> None:
    """Raise :class:`ArgumentError` unless a pool can have `size` connections."""
    if size < 1:
        raise ArgumentError(f"size is {size}, and a pool has at least 1 connection; give size=1 or more")


def given(name: str, kind: Callable[[str], T], argument: T | None, default: D) -> T | D:
    """An argument; if it is None, the setting `PREHEAT_<name>`, or else a default.

    Raises:
        ArgumentError: if the setting is not a `kind`.
    """
    if argument is not None:
        return argument
    return setting(name, kind, default)


def prepare_of(text: str) -> Prepare:
    """The value of `prepare` that a setting stands for; raises ValueError if there is none."""
    words: dict[str, Prepare] = {"auto": "auto", "true": True, "false": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise ValueError(text) from None
