"""The codes by which PostgreSQL classifies errors: https://www.postgresql.org/docs/current/errcodes-appendix.html."""

from __future__ import annotations

PROTOCOL_VIOLATION = "08P01"
FEATURE_NOT_SUPPORTED = "0A000"
DATA_EXCEPTION = "22000"
OUT_OF_RANGE = "22003"
INVALID_PARAMETER_VALUE = "22023"
INVALID_BINARY_REPRESENTATION = "22P03"
NOT_NULL_VIOLATION = "23502"
UNIQUE_VIOLATION = "23505"
DEPENDENT_OBJECTS = "2BP01"
INVALID_SCHEMA = "3F000"
SERIALIZATION_FAILURE = "40001"
DEADLOCK_DETECTED = "40P01"
INSUFFICIENT_PRIVILEGE = "42501"
INVALID_NAME = "42602"
UNDEFINED_COLUMN = "42703"
UNDEFINED_OBJECT = "42704"
UNDEFINED_FUNCTION = "42883"
UNDEFINED_TABLE = "42P01"
DUPLICATE_TABLE = "42P07"
DISK_FULL = "53100"
OUT_OF_MEMORY = "53200"
LIMIT_EXCEEDED = "54000"
LOCK_NOT_AVAILABLE = "55P03"
UNDEFINED_FILE = "58P01"

BAD_BINARY = (DATA_EXCEPTION, INVALID_BINARY_REPRESENTATION, PROTOCOL_VIOLATION)
"""Of a COPY whose vectors have another number of dimensions than the column, or too few or too many bytes."""

NO_MEMORY = (DISK_FULL, OUT_OF_MEMORY)
"""Of a statement for which the server cannot get memory; shared memory is a kind of disk."""

BUSY = (DEADLOCK_DETECTED, SERIALIZATION_FAILURE, LOCK_NOT_AVAILABLE)
"""Of a statement that conflicts with another transaction."""

EXTENSION_NOT_AVAILABLE = (FEATURE_NOT_SUPPORTED, UNDEFINED_FILE, INVALID_PARAMETER_VALUE)
"""Of `CREATE EXTENSION` on a server without the files of the extension."""

OFF_THE_SEARCH_PATH = (UNDEFINED_OBJECT, UNDEFINED_FUNCTION)
"""Of a statement that names a type or an operator of pgvector, which is in another schema, or not in this database."""

SOMETHING_IS_MISSING = (
    UNDEFINED_TABLE,
    UNDEFINED_COLUMN,
    UNDEFINED_OBJECT,
    UNDEFINED_FUNCTION,
    INVALID_SCHEMA,
    UNDEFINED_FILE,
    INVALID_NAME,
    DUPLICATE_TABLE,
)
"""Of a statement that names a table, a column, a type, an operator, a schema, a library or a setting that does not
exist, or that creates a table whose indexes still exist."""


def sqlstate(error: BaseException) -> str | None:
    """The five characters by which PostgreSQL classifies an error, whatever the driver; None for other errors."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) else None
