"""Every parameter that a DSN can have, and what becomes of it.

The reference page on DSNs and its tests are made from this table.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ("SETTING_VARIABLES", "SOCKET_FOLDERS", "SSL_MODES", "TLS_WORDS", "VARIABLES", "WORDS", "Word")

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SESSIONS = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")
ON = ("1", "on", "true", "yes")
OFF = ("0", "off", "false", "no")


class Word(NamedTuple):
    """One parameter.

    A parameter is honored if it has no `remedy`. Otherwise the values in `harmless` change nothing and are dropped with
    a line in the log, and every other value is refused with the remedy.
    """

    name: str
    effect: str
    """What the parameter does, for the reference."""
    variable: str = ""
    """The environment variable that is read if the DSN does not give the parameter."""
    choices: tuple[str, ...] = ()
    """The values that an honored parameter can have; empty for any."""
    harmless: tuple[str, ...] = ()
    remedy: str = ""
    libpq: bool = True
    """Whether it is one of libpq's own."""
    example: str = ""
    """A value for the tests."""

    def is_harmless(self, value: str) -> bool:
        """Whether a value of a parameter that is not honored changes nothing."""
        return self.harmless == ("*",) or value in self.harmless


def _honored(
    name: str, variable: str, effect: str, example: str, choices: tuple[str, ...] = (), libpq: bool = True
) -> Word:
    return Word(name, effect, variable, choices=choices, example=example, libpq=libpq)


def _dropped(name: str, variable: str, effect: str, example: str, libpq: bool = True) -> Word:
    return Word(name, effect, variable, harmless=("*",), remedy="leave it out", example=example, libpq=libpq)


def _refused(
    name: str,
    variable: str,
    effect: str,
    remedy: str,
    example: str,
    harmless: tuple[str, ...] = (),
    libpq: bool = True,
) -> Word:
    return Word(name, effect, variable, harmless=harmless, remedy=remedy, example=example, libpq=libpq)


WORDS: dict[str, Word] = {
    word.name: word
    for word in (
        # Where to connect to
        _honored("host", "PGHOST", "Names, addresses or socket folders, separated by commas.", "a.example,b.example"),
        _honored("hostaddr", "PGHOSTADDR", "Addresses to connect to in place of looking `host` up.", "127.0.0.1"),
        _honored("port", "PGPORT", "One port for all hosts, or one for each host.", "5433"),
        _honored("dbname", "PGDATABASE", "The database; by default the name of the user.", "app"),
        _honored("database", "", "The same as `dbname`, as in asyncpg.", "app", libpq=False),
        _honored("service", "PGSERVICE", "A section of the service file. An unknown service is an error.", "app"),
        _honored("servicefile", "PGSERVICEFILE", "The service file; by default `~/.pg_service.conf`.", "services"),
        _honored(
            "target_session_attrs",
            "PGTARGETSESSIONATTRS",
            "Which of several hosts to use. It costs no round trip with PostgreSQL 14 or later, and one before.",
            "read-write",
            SESSIONS,
        ),
        _honored(
            "load_balance_hosts",
            "PGLOADBALANCEHOSTS",
            "`random` shuffles hosts and addresses.",
            "random",
            ("disable", "random"),
        ),
        # Who connects
        _honored("user", "PGUSER", "The role; by default the name of the operating system's user.", "app"),
        _honored("password", "PGPASSWORD", "The password. It is never shown.", "secret"),
        _honored(
            "passfile", "PGPASSFILE", "The password file, read at each connection; by default `~/.pgpass`.", "pgpass"
        ),
        _refused(
            "require_auth",
            "PGREQUIREAUTH",
            "asyncpg takes what method the server asks for.",
            "let pg_hba.conf on the server ask for scram-sha-256 alone, and use sslmode=verify-full",
            "scram-sha-256",
        ),
        _honored(
            "channel_binding",
            "PGCHANNELBINDING",
            "`require` binds the log-in to the server's certificate (SCRAM-SHA-256-PLUS), or fails; needs TLS. "
            "`prefer` and `disable` do not bind.",
            "require",
            ("disable", "prefer", "require"),
        ),
        _refused(
            "scram_client_key",
            "",
            "asyncpg logs in with a password.",
            "give a password",
            "key",
        ),
        _refused("scram_server_key", "", "asyncpg logs in with a password.", "give a password", "key"),
        _refused(
            "requirepeer",
            "PGREQUIREPEER",
            "asyncpg does not check the server process of a socket.",
            "use a socket folder that only the server's user can write to",
            "postgres",
        ),
        _honored("krbsrvname", "PGKRBSRVNAME", "The Kerberos service name for GSSAPI log-in.", "postgres"),
        _honored("gsslib", "PGGSSLIB", "The library for GSSAPI log-in.", "gssapi", ("gssapi", "sspi")),
        _refused(
            "gssencmode",
            "PGGSSENCMODE",
            "asyncpg has no GSSAPI encryption.",
            "encrypt with TLS: sslmode=verify-full",
            "require",
            harmless=("disable", "prefer"),
        ),
        _refused(
            "gssdelegation",
            "PGGSSDELEGATION",
            "asyncpg delegates no credentials.",
            "leave it out",
            "1",
            harmless=("0",),
        ),
        *(
            _refused(name, "", "asyncpg has no OAuth.", "fetch a token yourself and give it as the password", "x")
            for name in ("oauth_issuer", "oauth_client_id", "oauth_client_secret", "oauth_scope")
        ),
        # How long, and how the network is watched
        _honored(
            "connect_timeout",
            "PGCONNECT_TIMEOUT",
            "Seconds for each host; 0 waits without a bound. `open_pool(connect_timeout=)` bounds all hosts together.",
            "5",
        ),
        _honored("keepalives", "", "0 switches TCP keep-alive off.", "0", ("0", "1")),
        _honored("keepalives_idle", "", "Idle seconds before the first keep-alive; 30 by default, 0: system.", "40"),
        _honored("keepalives_interval", "", "Seconds between keep-alives; 10 by default, 0: system.", "5"),
        _honored("keepalives_count", "", "Lost keep-alives until the end; 3 by default, 0: system.", "4"),
        _honored(
            "tcp_user_timeout",
            "",
            "Milliseconds that sent data may stay unacknowledged; 30000 by default, 0: system.",
            "5000",
        ),
        # TLS
        _honored("sslmode", "PGSSLMODE", "How much TLS is wanted; `prefer` by default.", "verify-full", SSL_MODES),
        _honored("ssl", "", "Another word for `sslmode`; `true` means `require`, as in libpq.", "true", libpq=False),
        _honored("requiressl", "PGREQUIRESSL", "Obsolete: 1 means `sslmode=require`.", "1", ("0", "1")),
        _honored(
            "sslnegotiation",
            "PGSSLNEGOTIATION",
            "`direct` saves a round trip, from PostgreSQL 17.",
            "postgres",
            ("postgres", "direct"),
        ),
        _honored(
            "sslrootcert",
            "PGSSLROOTCERT",
            "A file with authorities, or `system` for those of this machine, which implies `verify-full`.",
            "system",
        ),
        _honored("sslcrl", "PGSSLCRL", "A file with revoked certificates.", "crl.pem"),
        _honored("sslcert", "PGSSLCERT", "The client's certificate.", "client.crt"),
        _honored("sslkey", "PGSSLKEY", "The key of the client's certificate.", "client.key"),
        _honored("sslpassword", "", "The password of that key. It is never shown.", "secret"),
        _honored("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", "`TLSv1.2` by default.", "TLSv1.3"),
        _honored("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", "No bound by default.", "TLSv1.3"),
        _refused(
            "sslcrldir",
            "PGSSLCRLDIR",
            "asyncpg reads one file.",
            "put the lists into one file and name it as sslcrl",
            "crls",
        ),
        _refused(
            "sslcertmode",
            "PGSSLCERTMODE",
            "asyncpg sends a certificate if it has one and the server asks for it.",
            "leave it out; without sslcert and ~/.postgresql/postgresql.crt no certificate is sent",
            "require",
            harmless=("allow",),
        ),
        _refused(
            "sslsni",
            "PGSSLSNI",
            "asyncpg always names the host (SNI).",
            "leave it out, or give the host as an address, which is not named",
            "0",
            harmless=("1",),
        ),
        _dropped("sslcompression", "PGSSLCOMPRESSION", "TLS has no compression any more.", "1"),
        _refused(
            "sslkeylogfile",
            "",
            "A DSN cannot have the keys of TLS written.",
            "set the environment variable SSLKEYLOGFILE",
            "keys",
        ),
        # The session
        _honored(
            "application_name", "PGAPPNAME", "What the server shows of the client; `preheat` by default.", "my-app"
        ),
        _honored("fallback_application_name", "", "Used if there is no `application_name`.", "my-app"),
        _honored("options", "PGOPTIONS", "Options of the server, such as `-c search_path=app`.", "-c geqo=off"),
        _honored("client_encoding", "PGCLIENTENCODING", "The encoding of the session; `auto` is UTF8.", "UTF8"),
        _refused(
            "replication", "", "A replication connection runs no searches.", "leave it out", "database", harmless=OFF
        ),
        _refused(
            "min_protocol_version",
            "PGMINPROTOCOLVERSION",
            "asyncpg speaks version 3.0.",
            "leave it out",
            "3.2",
            harmless=("3.0",),
        ),
        _dropped("max_protocol_version", "PGMAXPROTOCOLVERSION", "asyncpg speaks version 3.0.", "3.2"),
        _dropped("authtype", "PGAUTHTYPE", "Obsolete; libpq drops it, too.", "x"),
        _dropped("tty", "PGTTY", "Obsolete; libpq drops it, too.", "x"),
        # What other drivers and tools put into a DSN
        _dropped("pgbouncer", "", "A word of Prisma; the pool notices a pooler itself.", "true", False),
        _dropped("async_fallback", "", "A word of SQLAlchemy.", "true", False),
        _dropped("uselibpqcompat", "", "A word of node-postgres; libpq's meaning is the one used here.", "true", False),
        *(
            _refused(name, "", f"A word of {whose}.", remedy, example, libpq=False)
            for name, whose, remedy, example in (
                ("connection_limit", "Prisma", "give the pool's size as open_pool(size=)", "1"),
                ("pool_size", "other tools", "give the pool's size as open_pool(size=)", "5"),
                ("pool_timeout", "Prisma", "give open_pool(acquire_timeout=)", "10"),
                ("schema", "Prisma", "write options=-csearch_path=NAME, or VectorStorage(schema=)", "public"),
                ("command_timeout", "asyncpg", "give open_pool(statement_timeout=)", "5"),
                ("statement_cache_size", "asyncpg", "give open_pool(prepare=False) for 0, or leave it out", "0"),
                ("prepared_statement_cache_size", "SQLAlchemy", "give open_pool(prepare=False) for 0", "0"),
                ("unix_sock", "pg8000", "write host=/the/folder of the socket", "/run/.s.PGSQL.5432"),
            )
        ),
    )
}

SETTING_VARIABLES = {"PGDATESTYLE": "datestyle", "PGTZ": "timezone", "PGGEQO": "geqo"}
"""Variables that libpq sends to the server as settings of the session."""

VARIABLES: dict[str, str] = {word.variable: name for name, word in WORDS.items() if word.variable}
"""The parameter that each environment variable stands for. `PGSYSCONFDIR` is read for the service file as well."""

TLS_WORDS = (
    "sslcrl",
    "sslcert",
    "sslkey",
    "sslpassword",
    "ssl_min_protocol_version",
    "ssl_max_protocol_version",
)
"""Parameters that asyncpg takes from a DSN as they are."""

SOCKET_FOLDERS = ("/run/postgresql", "/var/run/postgresql", "/tmp", "/private/tmp")  # noqa: S108
"""Where the socket of a server may be if no host is named."""
