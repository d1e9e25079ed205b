"""Which event loop is running."""

from __future__ import annotations

import sys

__all__ = ("running_backend",)


def running_backend() -> str:
    """`"asyncio"` or `"trio"`. Nobody runs on trio without having imported it."""
    if "trio" in sys.modules:
        from sniffio import AsyncLibraryNotFoundError, current_async_library

        try:
            return current_async_library()
        except AsyncLibraryNotFoundError:
            return "asyncio"
    return "asyncio"
