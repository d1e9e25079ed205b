"""Plans that a test makes the server choose."""

from __future__ import annotations

WAYS = {
    "as the server likes": "",
    "by the index": "&enable_seqscan=off&enable_sort=off&enable_bitmapscan=off",
    "by the table": "&enable_indexscan=off&enable_bitmapscan=off",
}
"""What to append to a DSN, by the way to the rows."""
