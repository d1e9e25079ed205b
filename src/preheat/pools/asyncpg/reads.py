"""Whether a statement only reads, so that it can be run again.

A read that was sent on a dead connection may have been executed or not; running it again changes nothing. A function
that it calls may write, so the pool runs it again in a transaction that only reads. That does not stop the functions
that are named here. `set_config` is not one of them: what it has set ends with the connection, at the latest.
"""

from __future__ import annotations

import re

__all__ = ("is_read",)

_NO_READ = re.compile(
    r"\b(insert|update|delete|merge|into|call|copy|do|lock|nextval|setval|notify"
    r"|pg_\w*(terminate|cancel|advisory|notify|reload|rotate|switch|promote|sleep|slot|origin|emit)\w*|lo_\w+|dblink\w*|query_to_xml\w*)\b",
    re.IGNORECASE,
)
_READ = re.compile(r"\s*(select|with|values|table|show|explain)\b", re.IGNORECASE)


def is_read(query: str) -> bool:
    """Whether a statement changes nothing, as far as its words tell: one that calls a function may do anything."""
    return _READ.match(query) is not None and _NO_READ.search(query) is None
