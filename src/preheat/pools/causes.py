"""What went wrong on the way to a server or in a statement, as the error that a caller sees. Knows no driver.

A cause is told by its SQLSTATE, since the server's sentences come in the language that it was set to.
"""

from __future__ import annotations

import os
import socket
import ssl
from pathlib import Path

from ..errors import AccessError, ConnectError, DatabaseError, describe, without_secrets
from .dsn.parameters import ConnectionParameters

__all__ = ("ASK_THE_OWNER", "connect_error", "is_end_of_connection", "lost", "no_transactions", "statement_error")

AGAIN = "try again: the pool opens a new connection"
ASK_THE_OWNER = "let the owner of what the server names grant this role that privilege"
CONNECTION_FAILURE = "08006"
"""What a connection is told by that was lost without a word of the server's."""
BACK = "try again once the server is back"

# What to do about a connection attempt that the server refused, and about a server that ended a connection.
_REFUSALS: dict[str, str] = {
    "28P01": "check the user and the password in the DSN, where @ is written %40 and % is %25, and that the password "
    "has not expired (VALID UNTIL)",
    "28": "check the user in the DSN, and that pg_hba.conf on the server lets this user in from this host",
    "3D000": "create the database, or name another one in the DSN",
    "42501": "let the owner of the database grant this role CONNECT on it, or name another one in the DSN",
    "42704": "remove the parameter from the DSN",
    "53300": "use a smaller pool, close other clients, or raise the limit that the server names "
    "(max_connections, or CONNECTION LIMIT of the role or the database)",
    "55000": "name another database in the DSN; this one takes no connections",
    "57P01": BACK,
    "57P02": BACK,
    "57P03": "wait until the server has started, and try again; a standby takes connections only with hot_standby = on",
    "57P04": "the database was dropped; create it, or name another one in the DSN",
    "57P05": "try again: the pool opens a new connection; or raise idle_session_timeout",
    "25P03": "end a transaction sooner, or raise idle_in_transaction_session_timeout",
    "25P04": "end a transaction sooner, or raise transaction_timeout",
    "08P01": "check the user, the database and the parameters in the DSN: a pooler in between has to know them",
    "08": "check that PostgreSQL is what listens on that host and port, and look at its log",
    "XX": "check the user and the database in the DSN, which a pooler in between may want in another form, and look at "
    "the log of the server",
}

# What to do about a statement that the server refused, most specific first: five characters, or a class of two.
_REMEDIES: dict[str, str] = {
    "08": "check the values of the statement",
    "0A000": "update the server or the extension, or ask for something that it has",
    "0A": "ask for something that the server has",
    "22021": "the database cannot hold this text; make one with ENCODING 'UTF8' (CREATE DATABASE ... ENCODING 'UTF8' "
    "TEMPLATE template0)",
    "22P05": "the database cannot hold this text; make one with ENCODING 'UTF8' (CREATE DATABASE ... ENCODING 'UTF8' "
    "TEMPLATE template0)",
    "22": "check the values of the statement",
    "23": "change the data, or the constraint that it breaks",
    "25006": "connect to the primary (target_session_attrs=read-write in the DSN), or, if this is the primary, set "
    "default_transaction_read_only to off",
    "25": "end the transaction that is open, and try again",
    "26000": "use prepare=False in open_pool behind a pooler in transaction mode",
    "42P05": "use prepare=False in open_pool behind a pooler in transaction mode",
    "28": "check the rights of this role",
    "3F000": "create the schema, or name another one",
    "40": "try again",
    "42501": ASK_THE_OWNER,
    "42": "check the statement, and that the tables and extensions that it names are in this database",
    "53100": "free some space on the disk of the server, or enlarge it, and try again",
    "53200": "give the server more memory, or lower work_mem, maintenance_work_mem or max_connections, and try again",
    "53300": "use a smaller pool, close other clients, or raise the limit that the server names",
    "53400": "raise the limit that the server names",
    "53": "give the server more of what it lacks, and try again",
    "54": "store or ask for less at a time",
    "55006": "wait until nobody else uses it, and try again",
    "55P03": "another transaction holds the lock; try again, or raise lock_timeout",
    "55": "bring the object into the state that the server names, and try again",
    "57014": "the statement was cancelled, or it took longer than statement_timeout; try again, ask for less, or "
    "raise statement_timeout for this role (ALTER ROLE ... SET statement_timeout)",
    "57": BACK,
    "58P01": "the server lacks a file, such as the library of an extension; install it there again",
    "58": "look at the log of the server and at its disk",
    "P0": "look at the trigger or the function that raised it",
    "XX001": "restore the table from a backup",
    "XX002": "make the index again (REINDEX)",
    "XX": "look at the log of the server",
}
_UNKNOWN = "look at the log of the server"


def _remedy(remedies: dict[str, str], sqlstate: str, otherwise: str) -> str:
    return remedies.get(sqlstate) or remedies.get(sqlstate[:2]) or otherwise


def is_end_of_connection(sqlstate: str, severity: str | None) -> bool:
    """Whether an error of the server's is the end of its connection."""
    return severity in ("FATAL", "PANIC") or sqlstate in ("57P01", "57P02", "57P03")


def statement_error(error: Exception, sqlstate: str | None) -> DatabaseError:
    """The error for a statement that the server or the driver refused, on a connection that is still there."""
    reason = without_secrets(" ".join(str(error).split())) or type(error).__name__
    if sqlstate is None:
        return DatabaseError(reason, "check the statement and its arguments")
    kind = AccessError if sqlstate == "42501" else DatabaseError
    return kind(reason, _remedy(_REMEDIES, sqlstate, _UNKNOWN), sqlstate=sqlstate)


_TRANSIENT = ("08", "25006", "25P0", "40", "53", "57", "58")
_FATAL = ("08P01", "57P04")
_POOLER_IS_TRYING = ("try again", "connect failed", "timeout", "shutting down", "no more connections", "crashed")
"""Words of PgBouncer, which has one code for everything."""


def is_transient(error: BaseException, sqlstate: str | None) -> bool:
    """Whether another connection attempt may succeed without a change of the configuration."""
    if sqlstate == "08P01":
        return any(words in str(error) for words in _POOLER_IS_TRYING)
    if sqlstate is not None:
        return sqlstate.startswith(_TRANSIENT) and sqlstate not in _FATAL
    if isinstance(error, ssl.SSLError):
        return isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))  # the server hung up
    return isinstance(error, OSError) and not (isinstance(error, PermissionError) or "SSL upgrade" in str(error))


def connect_error(
    error: Exception, target: str, sqlstate: str | None, parameters: ConnectionParameters | None = None
) -> ConnectError | None:
    """The error for a connection that could not be made or was lost; None if `error` is about something else.

    Args:
        parameters: what it was made of, which remedies name parts of; None if that is not known.
    """
    missing = _missing_file(parameters) if sqlstate is None and isinstance(error, OSError) else None
    if missing is not None:
        remedy = missing
    elif sqlstate is not None:
        remedy = _refusal(error, sqlstate, parameters)
    elif isinstance(error, ssl.SSLError):
        remedy = _tls(error)
    elif isinstance(error, OSError):
        remedy = _network(error)
    else:
        return None
    transient = missing is None and is_transient(error, sqlstate)
    return ConnectError(target, describe(error), remedy, sqlstate=sqlstate, transient=transient)


def lost(error: Exception, target: str, sqlstate: str | None) -> ConnectError:
    """The error for a connection that was lost, if the server has not said why."""
    return ConnectError(target, describe(error), AGAIN, sqlstate=sqlstate or CONNECTION_FAILURE, transient=True)


def no_transactions(error: Exception, target: str) -> ConnectError:
    """The error for a transaction that a pooler in statement mode has refused."""
    remedy = "the pooler in between allows no transactions; let it keep a session for each (pool_mode = transaction)"
    return ConnectError(target, describe(error), remedy, sqlstate="08P01")


def _refusal(error: Exception, sqlstate: str, parameters: ConnectionParameters | None) -> str:
    """What to do about a refusal of the server's."""
    words = str(error)
    if sqlstate == "28000" and ("pg_hba.conf" in words or "encryption" in words):
        if "SSL encryption" in words or "SSL on" in words:
            return (
                "let pg_hba.conf on the server allow this host, user and database with TLS (hostssl), or use "
                "sslmode=disable if it allows them without (hostnossl)"
            )
        return (
            "let pg_hba.conf on the server allow this host, user and database, or use sslmode=require in the DSN if it "
            "allows them with TLS alone (hostssl)"
        )
    if sqlstate == "28000":
        return "create the role on the server, or let it log in (ALTER ROLE ... LOGIN), or name another user in the DSN"
    if sqlstate == "42501" and parameters is not None:
        return (
            "name another database in the DSN, or let its owner run: "
            f"GRANT CONNECT ON DATABASE {_quoted(parameters.database)} TO {_quoted(parameters.user)}"
        )
    return _remedy(_REFUSALS, sqlstate, _remedy(_REMEDIES, sqlstate, _UNKNOWN))


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'


def _missing_file(parameters: ConnectionParameters | None) -> str | None:
    """What to do about a file that the DSN names and that cannot be read, if there is one."""
    words = parameters.tls.words if parameters is not None else None
    for word in ("sslrootcert", "sslcert", "sslkey", "sslcrl"):
        path = (words or {}).get(word, "")
        if path and not Path(path).is_file():
            return f"{word} names {path}, which is not a file; correct {word} in the DSN, or put the file there"
        if path and not os.access(path, os.R_OK):
            return f"{word} names {path}; let this user read that file"
    return None


_CERTIFICATES: dict[int, str] = {
    9: "its time has not come yet: check the clock here and on the server",
    10: "let the server's administrator renew it, and check the clock here",
    18: "name the server's own certificate or its authority in sslrootcert",
    19: "name the authority that signed it in sslrootcert",
    20: "name the authority that signed it in sslrootcert",
    62: "use the name that the certificate is for as the host in the DSN, or sslmode=verify-ca",
    64: "use the name that the certificate is for as the host in the DSN, or sslmode=verify-ca",
}
"""What to do about OpenSSL's verdict on the server's certificate; X509_V_ERR_*."""


def _tls(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _CERTIFICATES.get(error.verify_code, "check sslmode, sslrootcert and the certificate of the server")
    if error.reason == "NO_CERTIFICATE_OR_CRL_FOUND":
        return "give a file with certificates in PEM format as sslrootcert"
    if error.reason == "WRONG_VERSION_NUMBER":
        return "check that PostgreSQL with TLS is running there, and that host and port in the DSN are right"
    return "check sslmode, sslrootcert, sslcert and sslkey in the DSN, and the TLS versions that the server takes"


def _network(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "check that the host is reachable, or give it longer with connect_timeout"
    if isinstance(error, socket.gaierror):
        return "check the name of the host in the DSN"
    if isinstance(error, FileNotFoundError):
        return "check the file or the socket folder that the DSN names, and that PostgreSQL is running there"
    if isinstance(error, PermissionError):
        return "let this user into the socket folder that the DSN names"
    if "rejected SSL upgrade" in str(error):
        return (
            "the server has no TLS, or is not PostgreSQL: set ssl = on at the server, use sslmode=prefer or "
            "sslmode=disable in the DSN, or check host and port"
        )
    return "check that PostgreSQL is running there and that host and port in the DSN are right"
