"""libpq itself, out of the wheel that the embedded server comes in: what it makes of a DSN."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from pathlib import Path
from typing import Any

from tests.support.needed import missing

from preheat.embedded.server import programs


class _Option(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_char_p) for name in ("keyword", "envvar", "compiled", "val", "label", "dispchar")),
        ("dispsize", ctypes.c_int),
    )


@cache
def _libpq() -> Any:
    file = programs().parent / "lib" / "libpq.so.5"
    if sys.platform != "linux" or not Path(file).exists():
        missing("the wheel has no libpq that can be loaded here")
    library = ctypes.CDLL(str(file))
    library.PQconndefaults.restype = library.PQconninfoParse.restype = ctypes.POINTER(_Option)
    library.PQconninfoParse.argtypes = (ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p))
    library.PQconninfoFree.argtypes = (ctypes.POINTER(_Option),)
    return library


def _each(options: Any) -> list[Any]:
    found = []
    while (option := options[len(found)]).keyword:
        found.append(option)
    return found


def parameters() -> dict[str, str]:
    """Each parameter that libpq knows, with its environment variable or nothing."""
    options = _libpq().PQconndefaults()
    return {option.keyword.decode(): (option.envvar or b"").decode() for option in _each(options)}


def parsed(dsn: str) -> dict[str, str] | str:
    """What libpq reads in a DSN, without empty values; or its words of refusal."""
    error = ctypes.c_char_p()
    options = _libpq().PQconninfoParse(dsn.encode(), ctypes.byref(error))
    if not options:
        return (error.value or b"").decode()
    try:
        return {option.keyword.decode(): option.val.decode() for option in _each(options) if option.val}
    finally:
        _libpq().PQconninfoFree(options)
