"""What a DSN says, in libpq's meaning.

A DSN is a URI or libpq's `name=value` words. What it does not say comes from a service file, then from the `PG*`
variables, then from libpq's defaults. Nothing here opens a connection, and no message shows a password.
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from ...errors import ArgumentError
from .files import read_service
from .words import SETTING_VARIABLES, SOCKET_FOLDERS, SSL_MODES, TLS_WORDS, VARIABLES, WORDS

__all__ = ("TLS", "ConnectionParameters", "Host", "KeepAlive", "connection_parameters", "is_dsn", "parameters_of")

PORT = 5432

WRITE_AS = "write postgresql://user:password@host:port/database"


@dataclass(frozen=True, slots=True)
class Host:
    """One server to try."""

    name: str
    """A name, an address, or the folder of a socket."""
    port: int = PORT
    address: str = ""
    """The address to connect to if it is not to be looked up."""

    @property
    def is_socket(self) -> bool:
        """Whether it is reached through a Unix socket."""
        return self.name.startswith("/") and not self.address

    @property
    def socket(self) -> str:
        """The path of the socket."""
        return self.name if ".s.PGSQL." in self.name else str(Path(self.name) / f".s.PGSQL.{self.port}")

    def __str__(self) -> str:
        if self.is_socket:
            return "local socket"
        name = self.name or self.address
        return f"[{name}]:{self.port}" if ":" in name else f"{name}:{self.port}"


@dataclass(frozen=True, slots=True)
class TLS:
    """How a connection is encrypted."""

    mode: str = "prefer"
    direct: bool = False
    """TLS from the first byte."""
    bound: bool = False
    """Whether the log-in is bound to the server's certificate."""
    system: bool = False
    """Whether the authorities of this machine are trusted."""
    words: Mapping[str, str] | None = None
    """Files and versions, by the names that asyncpg's DSN has for them."""

    def __repr__(self) -> str:  # the words may hold the password of a key
        return f"<TLS {self.mode}>"


@dataclass(frozen=True, slots=True)
class KeepAlive:
    """How a silent network is noticed; 0 leaves a value to the system."""

    enabled: bool = True
    idle: int = 30
    """Seconds."""
    interval: int = 10
    """Seconds."""
    count: int = 3
    user_timeout: int = 30_000
    """Milliseconds that sent data may stay unacknowledged."""


@dataclass(frozen=True, slots=True, repr=False)
class ConnectionParameters:
    """All that a connection is made of."""

    hosts: tuple[Host, ...]
    user: str
    database: str
    password: str | None
    passfile: str
    tls: TLS
    keepalive: KeepAlive
    settings: Mapping[str, str]
    """Of the session, sent with the start-up."""
    connect_timeout: float | None
    """Seconds for each host, if the DSN says so."""
    session: str
    """`target_session_attrs`."""
    shuffled: bool
    """`load_balance_hosts=random`."""
    gss: Mapping[str, str]
    dropped: tuple[str, ...]
    """Parameters and variables that change nothing."""

    @property
    def is_default(self) -> bool:
        """Whether no host is named."""
        return self.hosts == _default_hosts(self.hosts[0].port)

    @property
    def seconds(self) -> float:
        """Seconds for one connection, over all hosts: what the DSN says for each, or else 10."""
        return 10.0 if self.connect_timeout is None else self.connect_timeout * len(self.hosts)

    @property
    def target(self) -> str:
        """What logs and errors call the database: `host:port/database`."""
        names = dict.fromkeys(str(host) for host in self.hosts)
        if self.is_default:
            names = {"local socket": None}
        return f"{','.join(names)}/{self.database}"

    def __repr__(self) -> str:
        return f"<ConnectionParameters {self.target}>"


def is_dsn(value: object) -> bool:
    """Whether something is a DSN, or an object that stands for one, rather than a pool."""
    if isinstance(value, str) or hasattr(value, "render_as_string") or hasattr(value, "get_secret_value"):
        return True
    return re.match(r"postgres(ql)?(\+\w+)?://", str(value), re.IGNORECASE) is not None


def connection_parameters(dsn: object, environment: Mapping[str, str] | None = None) -> ConnectionParameters:
    """What a DSN says; see the reference on DSNs.

    Args:
        dsn: a string, or an object whose `str()` is one, such as a URL of SQLAlchemy, yarl or pydantic.
        environment: the variables; by default those of the process.

    Raises:
        ArgumentError: if it cannot be taken apart, or says something that cannot be honored.
    """
    env = os.environ if environment is None else environment
    given = parameters_of(dsn)
    service = given.pop("service", "") or env.get("PGSERVICE", "")
    folder = given.pop("servicefile", "") or env.get("PGSERVICEFILE", "")
    from_service = read_service(service, folder, env) if service else {}
    values = {**from_service, **given}
    for variable, name in VARIABLES.items():
        if name not in ("service", "servicefile") and env.get(variable):
            values.setdefault(name, env[variable])
    settings = {setting: env[name] for name, setting in SETTING_VARIABLES.items() if env.get(name)}
    return _checked(values, settings)


def parameters_of(dsn: object) -> dict[str, str]:
    """The parameters that a DSN itself names, unchecked; an empty value is as good as none."""
    return _parsed(_text(dsn))


def _checked(values: dict[str, str], settings: dict[str, str]) -> ConnectionParameters:
    dropped = []
    for name, value in list(values.items()):
        word = WORDS.get(name)
        if word is None:
            _refuse_slips(name)
            settings[name] = values.pop(name)
        elif word.remedy:
            if not word.is_harmless(value):
                reason = word.effect.rstrip(".").replace("`", "")
                raise ArgumentError(
                    f"the DSN says {_shown(name, value)}, which cannot be honored: {reason}; {word.remedy}"
                )
            dropped.append(name)
        elif word.choices and value not in word.choices:
            raise ArgumentError(f"{name} is {value!r}; it can be {', '.join(word.choices)}")
    if (encoding := values.get("client_encoding", "auto")) != "auto":
        settings["client_encoding"] = encoding
    if "options" in values:
        settings["options"] = values["options"]
    if application := values.get("application_name") or values.get("fallback_application_name"):
        settings["application_name"] = application
    hosts, tls = _hosts(values), _tls(values)
    if tls.bound and any(host.is_socket for host in hosts):
        raise ArgumentError("channel_binding=require needs TLS, which a Unix socket has not; name a host in the DSN")
    user = values.get("user") or _system_user()
    timeout = values.get("connect_timeout")
    seconds = None if timeout is None else _number("connect_timeout", timeout)
    return ConnectionParameters(
        hosts=hosts,
        user=user,
        database=values.get("dbname") or values.get("database") or user,
        password=values.get("password"),
        passfile=values.get("passfile", ""),
        tls=tls,
        keepalive=_keepalive(values),
        settings=settings,
        connect_timeout=seconds if seconds is None or seconds > 0 else math.inf,
        session=values.get("target_session_attrs", "any"),
        shuffled=values.get("load_balance_hosts") == "random",
        gss={name: values[name] for name in ("krbsrvname", "gsslib") if name in values},
        dropped=tuple(dropped),
    )


# The text


def _text(dsn: object) -> str:
    if isinstance(dsn, str):
        text = dsn
    elif (render := getattr(dsn, "render_as_string", None)) is not None:
        text = str(render(hide_password=False))  # SQLAlchemy, whose str() may hide the password
    elif (reveal := getattr(dsn, "get_secret_value", None)) is not None:
        text = str(reveal())  # pydantic
    else:
        text = str(dsn)
    return text.strip()


_SCHEME = re.compile(r"([A-Za-z][\w+.-]*(?::[\w+.-]+)*)://")
_HIDDEN = re.compile(r"://[^/@]*:(\*{3,}|%2A%2A%2A|•+)@")


def _parsed(text: str) -> dict[str, str]:
    if not text:
        raise ArgumentError(f"the DSN is empty; {WRITE_AS}, or postgresql:// to take everything from PG* variables")
    if text[0] in "'\"" and text[-1] == text[0]:
        raise ArgumentError("the DSN is in quotes; remove the quotes around it")
    if _HIDDEN.search(text):
        raise ArgumentError("the password in the DSN is hidden by asterisks; give the DSN with the password itself")
    scheme = _SCHEME.match(text)
    if scheme is None:
        words = _words(text) if "=" in text else None
    elif re.fullmatch(r"postgres(ql)?(\+\w+)?", scheme[1].lower()):
        words = _uri(text[scheme.end() :], several="+" in scheme[1])
    else:
        words = None
    if words is None:
        hint = "; leave out jdbc:, and" if text.lower().startswith("jdbc:") else ";"
        raise ArgumentError(f"the DSN is not a PostgreSQL URL{hint} {WRITE_AS}")
    return {name: value for name, value in words.items() if value}


def _uri(rest: str, *, several: bool) -> dict[str, str]:
    """The parameters of what follows the scheme.

    The user ends at the last `@` before the path, as in libpq; asyncpg has it end at the first.

    Args:
        several: whether a repeated `host` adds a host, as SQLAlchemy has it.
    """
    netloc = re.split(r"[/?]", rest, maxsplit=1)[0]
    path, _, query = rest[len(netloc) :].partition("?")
    names, at, hosts = netloc.rpartition("@")
    if "@" in path or (not at and not path and "@" in query):
        raise _not_taken_apart()
    words: dict[str, str] = {}
    user, _, password = names.partition(":")
    names_and_ports = [_host_and_port(each) for each in hosts.split(",")]
    words["user"], words["password"] = unquote(user), unquote(password)
    words["host"] = ",".join(name for name, _ in names_and_ports).strip(",")
    words["port"] = ",".join(port for _, port in names_and_ports)
    if not words["port"].strip(","):
        del words["port"]
    words["dbname"] = unquote(path[1:])
    for pair in filter(None, query.split("&")):
        name, equals, value = (unquote(each) for each in pair.partition("="))
        if not equals or not name:
            raise _not_taken_apart()
        if name == "host" and several and words["host"] and value:
            value = f"{words['host']},{value}"
        words[name] = value
    return words


_HOST = re.compile(r"\[([^\]]*)\](?::(\d*))?|([^:\[\]#]*)(?::(\d*))?")


def _host_and_port(text: str) -> tuple[str, str]:
    found = _HOST.fullmatch(text)
    if found is None:
        raise _not_taken_apart()
    return unquote(found[1] if found[1] is not None else found[3]), found[2] or found[4] or ""


_WORD = re.compile(r"\s*([\w.]+)\s*=\s*('(?:[^'\\]|\\.)*'|(?:[^\s'\\]|\\.)(?:[^\s\\]|\\.)*)?(?=\s|$)", re.DOTALL)


def _words(text: str) -> dict[str, str]:
    """The parameters of libpq's other form: `name=value`, with quotes and backslashes."""
    words, position = {}, 0
    while position < len(text.rstrip()):
        found = _WORD.match(text, position)
        if found is None:
            raise ArgumentError(
                "the DSN cannot be taken apart; write host=... dbname=..., with values that hold spaces in single "
                "quotes, and ' and \\ as \\' and \\\\"
            )
        value = found[2] or ""
        words[found[1]] = re.sub(r"\\(.)", r"\1", value[1:-1] if value.startswith("'") else value, flags=re.DOTALL)
        position = found.end()
    return words


def _not_taken_apart() -> ArgumentError:
    return ArgumentError(
        "the DSN cannot be taken apart; give a port up to 65535 and parameters as name=value, "
        "and percent-encode what is special in user and password (@ is %40, / is %2F, ? is %3F, # is %23)"
    )


def _shown(name: str, value: str) -> str:
    harmless = WORDS[name].harmless or WORDS[name].choices
    return f"{name}={value}" if harmless and re.fullmatch(r"[\w.-]{1,20}", value) else name


def _refuse_slips(name: str) -> None:
    """Refuse a parameter that is nobody's, and close to one of libpq's; others may be settings of the server."""
    import difflib

    same = name.lower().replace("-", "_")
    close = [same] if same in WORDS else difflib.get_close_matches(same, WORDS, 1, 0.9)
    if close:
        raise ArgumentError(f"the DSN has a parameter {name!r} that libpq does not know; do you mean {close[0]}?")
    if not re.fullmatch(r"[A-Za-z_][\w.]*", name) or same.startswith(("ssl", "gss", "oauth", "scram", "pg")):
        raise ArgumentError(f"the DSN has a parameter {name!r} that libpq does not know; remove or correct it")


# Values


_WITH_PORT = re.compile(r"([^/:][^:]*):(\d+)")
"""A host as asyncpg and SQLAlchemy take it in the query of a URL."""


def _hosts(values: Mapping[str, str]) -> tuple[Host, ...]:
    names = values["host"].split(",") if "host" in values else []
    addresses = values["hostaddr"].split(",") if "hostaddr" in values else []
    ports = values["port"].split(",") if "port" in values else [""]
    split = [_WITH_PORT.fullmatch(name) for name in names]
    if any(split):
        ports = [found[2] if found else "" for found in split]
        names = [found[1] if found else name for found, name in zip(split, names, strict=True)]
    count = max(len(names), len(addresses))
    if not count:
        return _default_hosts(_port(ports[0]))
    if names and addresses and len(names) != len(addresses):
        raise ArgumentError(f"the DSN has {len(names)} in host and {len(addresses)} in hostaddr; give one of each")
    if len(ports) not in (1, count):
        raise ArgumentError(f"the DSN has {len(ports)} ports and {count} hosts; give one port, or one for each host")
    if any(name.startswith("@") for name in names):
        raise ArgumentError("host begins with @, and asyncpg has no abstract sockets; give the folder of the socket")
    names, addresses = names or [""] * count, addresses or [""] * count
    ports = ports * count if len(ports) == 1 else ports
    return tuple(
        Host(name or ("" if address else "localhost"), _port(number), address)
        for name, address, number in zip(names, addresses, ports, strict=True)
    )


def _default_hosts(port: int) -> tuple[Host, ...]:
    sockets = () if sys.platform == "win32" else tuple(Host(folder, port) for folder in SOCKET_FOLDERS)
    return (*sockets, Host("localhost", port))


def _port(text: str) -> int:
    if not text:
        return PORT
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 65535:
        raise _not_taken_apart()
    return int(text)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ArgumentError(f"{name} is {text!r}; give a number")
    return value


def _keepalive(values: Mapping[str, str]) -> KeepAlive:
    def whole(name: str, default: int) -> int:
        return max(0, int(_number(name, values[name]))) if name in values else default

    usual = KeepAlive()
    return KeepAlive(
        enabled=values.get("keepalives") != "0",
        idle=whole("keepalives_idle", usual.idle),
        interval=whole("keepalives_interval", usual.interval),
        count=whole("keepalives_count", usual.count),
        user_timeout=whole("tcp_user_timeout", usual.user_timeout),
    )


_SSL = {"true": "require", "1": "require", "on": "require", "yes": "require", "no-verify": "require"} | {
    "false": "disable",
    "0": "disable",
    "off": "disable",
    "no": "disable",
}
"""What `ssl` stands for, apart from the names of modes: `true` is libpq's, the others are other drivers'."""


def _tls(values: Mapping[str, str]) -> TLS:
    mode = values.get("sslmode", "")
    if ssl := values.get("ssl", ""):
        meant = _SSL.get(ssl.lower(), ssl.replace("_", "-"))
        if meant not in SSL_MODES:
            raise ArgumentError(f"ssl is {ssl!r}; write sslmode={'|'.join(SSL_MODES)}")
        mode = mode or meant
    if not mode and values.get("requiressl") == "1":
        mode = "require"
    root = values.get("sslrootcert", "")
    if root == "system":
        mode = mode or "verify-full"
        if mode != "verify-full":
            raise ArgumentError(f"sslmode={mode} is too weak for sslrootcert=system; use sslmode=verify-full")
    mode = mode or "prefer"
    direct = values.get("sslnegotiation") == "direct"
    if direct and SSL_MODES.index(mode) < SSL_MODES.index("require"):
        raise ArgumentError(
            f"sslmode={mode} is too weak for sslnegotiation=direct; use sslmode=require, verify-ca or verify-full"
        )
    bound = values.get("channel_binding") == "require"
    if bound and mode in ("disable", "allow"):
        raise ArgumentError(f"channel_binding=require needs TLS; use sslmode=require or better in place of {mode}")
    if bound and mode == "prefer":
        mode = "require"
    words = {name: values[name] for name in TLS_WORDS if name in values}
    for name in ("ssl_min_protocol_version", "ssl_max_protocol_version"):
        if name in words and words[name] not in ("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"):
            raise ArgumentError(f"{name} is {words[name]!r}; it can be TLSv1, TLSv1.1, TLSv1.2 or TLSv1.3")
    if root and root != "system":
        words["sslrootcert"] = root
    return TLS(mode, direct, bound, root == "system", words)


def _system_user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        raise ArgumentError("no user is named in the DSN, and this process has none; name one in the DSN") from None
