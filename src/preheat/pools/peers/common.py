"""What the adapters of other libraries' pools have in common."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from ...errors import ConnectError, PreheatError, describe
from ..causes import connect_error, lost

__all__ = ("RELEASE_SECONDS", "connecting", "number_of", "using")

RELEASE_SECONDS = 2.0
"""The most that putting a connection back may take: a rollback on a slow network."""

_TRY_AGAIN = ("refused", "timeout expired", "resolve host", "translate host name", "closed the connection", "starting")
"""Words of libpq, which has no code for what went wrong before the server answered."""

_LOST = ("is closed", "closed the connection", "connection lost", "the connection is lost", "consuming input failed")
"""Words of drivers about a connection that has died."""

_numbers = itertools.count(1)
_numbered: WeakKeyDictionary[Any, int] = WeakKeyDictionary()


def number_of(connection: Any) -> int:
    """A number for a connection that the server has none for: the same for as long as the object lives."""
    if connection not in _numbered:
        _numbered[connection] = next(_numbers)
    return _numbered[connection]


@contextmanager
def connecting(target: str, remedy: str | None = None) -> Generator[None]:
    """Raise a :class:`ConnectError` for a library's error, which says whether trying again may help.

    An error that is not about the network and has no SQLSTATE is raised as it is.

    Args:
        remedy: what to do about a server that cannot be reached; by default, what to do about a PostgreSQL.
    """
    try:
        yield
    except PreheatError:
        raise
    except Exception as error:
        for cause in _causes(error):
            sqlstate = getattr(cause, "sqlstate", None)
            found = connect_error(cause, target, sqlstate)
            if found is not None:
                told = found if remedy is None else _unreachable(target, cause, remedy)
                raise told from error
        if any(base.__name__ == "OperationalError" for base in type(error).__mro__):
            remedy = "check that PostgreSQL is running there, and host, port, user, password and database"
            transient = any(words in str(error) for words in _TRY_AGAIN)
            raise ConnectError(target, describe(error), remedy, transient=transient) from error
        raise


@contextmanager
def using(target: str) -> Generator[None]:
    """Raise a transient :class:`ConnectError` if a connection turns out to be dead: an idle one may be.

    Every other error of the block is raised as it is.
    """
    try:
        yield
    except PreheatError:
        raise
    except Exception as error:
        for cause in _causes(error):
            sqlstate = getattr(cause, "sqlstate", None) or ""
            ended = sqlstate.startswith("08") or sqlstate in ("57P01", "57P02", "57P03")
            if ended or isinstance(cause, ConnectionError) or any(words in str(cause).lower() for words in _LOST):
                raise lost(cause, target, sqlstate) from error
        raise


def _unreachable(target: str, cause: Exception, remedy: str) -> ConnectError:
    return ConnectError(target, describe(cause), remedy, transient=not isinstance(cause, ssl.SSLError))


def _causes(error: BaseException | None) -> Generator[Exception]:
    """An error, and the errors that it came of."""
    while isinstance(error, Exception):
        yield error
        error = error.__cause__ or error.__context__
