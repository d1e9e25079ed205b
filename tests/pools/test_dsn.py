"""A DSN means what libpq says that it means. libpq itself is asked, and each row of the reference is tried."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from docs.write_parameters import PAGE, table
from hypothesis import given
from hypothesis import strategies as st
from tests.support import libpq

from preheat import ArgumentError, open_pool
from preheat.pools.dsn.files import read_password
from preheat.pools.dsn.parameters import ConnectionParameters, Host, _parsed, connection_parameters, is_dsn
from preheat.pools.dsn.words import SETTING_VARIABLES, VARIABLES, WORDS, Word
from preheat.testing import FakePool

HONORED = [word for word in WORDS.values() if not word.remedy]
DROPPED = [word for word in WORDS.values() if word.harmless]
REFUSED = [word for word in WORDS.values() if word.remedy and word.harmless != ("*",)]


def read(words: str, **environment: str) -> ConnectionParameters:
    return connection_parameters(f"postgresql://u@h/d?{words}", {"HOME": "/nonexistent", **environment})


def values(parameters: ConnectionParameters) -> dict[str, Any]:
    found = {field.name: getattr(parameters, field.name) for field in fields(parameters)}
    return {**found, "tls": asdict(found["tls"])}


# The table


def test_each_parameter_and_variable_of_libpq_is_known() -> None:
    known = libpq.parameters()

    assert known.keys() <= WORDS.keys()
    assert {name: WORDS[name].variable for name, variable in known.items() if variable} == {
        name: variable for name, variable in known.items() if variable
    }


def test_parameters_listed_as_libpq_only_are_known_to_libpq() -> None:
    of_other_versions = {"requiressl", "authtype", "tty", "servicefile"}

    assert {word.name for word in WORDS.values() if word.libpq} - libpq.parameters().keys() <= of_other_versions


def test_the_reference_has_the_table() -> None:
    """`python -m docs.write_parameters` writes it anew."""
    assert PAGE.read_text(encoding="utf-8") == table()


EFFECTS: dict[str, tuple[str, Callable[[ConnectionParameters], object], object]] = {
    "host": ("host=a,b", lambda read: read.hosts, (Host("a"), Host("b"))),
    "hostaddr": ("hostaddr=10.0.0.1", lambda read: read.hosts, (Host("h", 5432, "10.0.0.1"),)),
    "port": ("port=5433", lambda read: read.hosts, (Host("h", 5433),)),
    "dbname": ("dbname=other", lambda read: read.database, "other"),
    "target_session_attrs": ("target_session_attrs=standby", lambda read: read.session, "standby"),
    "load_balance_hosts": ("load_balance_hosts=random", lambda read: read.shuffled, True),
    "user": ("user=other", lambda read: read.user, "other"),
    "password": ("password=secret", lambda read: read.password, "secret"),
    "passfile": ("passfile=/there", lambda read: read.passfile, "/there"),
    "channel_binding": ("channel_binding=require", lambda read: (read.tls.bound, read.tls.mode), (True, "require")),
    "krbsrvname": ("krbsrvname=pg", lambda read: read.gss, {"krbsrvname": "pg"}),
    "gsslib": ("gsslib=sspi", lambda read: read.gss, {"gsslib": "sspi"}),
    "connect_timeout": ("connect_timeout=5", lambda read: read.connect_timeout, 5),
    "keepalives": ("keepalives=0", lambda read: read.keepalive.enabled, False),
    "keepalives_idle": ("keepalives_idle=40", lambda read: read.keepalive.idle, 40),
    "keepalives_interval": ("keepalives_interval=5", lambda read: read.keepalive.interval, 5),
    "keepalives_count": ("keepalives_count=4", lambda read: read.keepalive.count, 4),
    "tcp_user_timeout": ("tcp_user_timeout=5000", lambda read: read.keepalive.user_timeout, 5000),
    "sslmode": ("sslmode=verify-ca", lambda read: read.tls.mode, "verify-ca"),
    "ssl": ("ssl=true", lambda read: read.tls.mode, "require"),
    "requiressl": ("requiressl=1", lambda read: read.tls.mode, "require"),
    "sslnegotiation": ("sslmode=require&sslnegotiation=direct", lambda read: read.tls.direct, True),
    "sslrootcert": ("sslrootcert=system", lambda read: (read.tls.system, read.tls.mode), (True, "verify-full")),
    "sslcrl": ("sslcrl=c", lambda read: read.tls.words, {"sslcrl": "c"}),
    "sslcert": ("sslcert=c", lambda read: read.tls.words, {"sslcert": "c"}),
    "sslkey": ("sslkey=c", lambda read: read.tls.words, {"sslkey": "c"}),
    "sslpassword": ("sslpassword=c", lambda read: read.tls.words, {"sslpassword": "c"}),
    **{
        f"ssl_{bound}_protocol_version": (
            f"ssl_{bound}_protocol_version=TLSv1.3",
            lambda read: read.tls.words,
            {f"ssl_{bound}_protocol_version": "TLSv1.3"},
        )
        for bound in ("min", "max")
    },
    "application_name": ("application_name=a", lambda read: read.settings["application_name"], "a"),
    "fallback_application_name": ("fallback_application_name=a", lambda read: read.settings["application_name"], "a"),
    "options": ("options=-c%20geqo%3Doff", lambda read: read.settings["options"], "-c geqo=off"),
    "client_encoding": ("client_encoding=UTF8", lambda read: read.settings["client_encoding"], "UTF8"),
}
ELSEWHERE = {"database", "service", "servicefile"}  # tested below


@pytest.mark.parametrize("word", [word for word in HONORED if word.name not in ELSEWHERE], ids=lambda word: word.name)
def test_an_honored_parameter_has_its_effect(word: Word) -> None:
    words, look, expected = EFFECTS[word.name]

    assert look(read(words)) == expected
    if word.variable:
        *others, own = words.split("&")
        host = "" if word.name in ("host", "hostaddr", "port", "user", "password", "dbname") else "u@h"
        start = f"postgresql://{host}?{'&'.join(others)}"
        value = own.partition("=")[2].replace("%20", " ").replace("%3D", "=")
        by_dsn = connection_parameters(f"{start}&{own}", {})
        assert values(connection_parameters(start, {word.variable: value})) == values(by_dsn)


@pytest.mark.parametrize("word", [word for word in HONORED if word.choices], ids=lambda word: word.name)
def test_a_value_that_a_parameter_cannot_have_is_refused_with_those_that_it_can(word: Word) -> None:
    with pytest.raises(ArgumentError, match=f"{word.name} is 'PERHAPS'; it can be {word.choices[0]}"):
        read(f"{word.name}=PERHAPS")


@pytest.mark.parametrize("word", DROPPED, ids=lambda word: word.name)
def test_a_parameter_that_changes_nothing_is_dropped_and_named(word: Word) -> None:
    value = word.example if word.harmless == ("*",) else word.harmless[0]
    found = read(f"{word.name}={value}")

    assert found.dropped == (word.name,)
    assert {**values(found), "dropped": ()} == values(read(""))
    if word.variable:
        assert read("", **{word.variable: value}).dropped == (word.name,)


@pytest.mark.parametrize("word", REFUSED, ids=lambda word: word.name)
def test_a_parameter_that_cannot_be_honored_is_refused_by_name_before_any_connection(word: Word) -> None:
    with pytest.raises(ArgumentError) as caught:
        open_pool(f"postgresql://u:secret@h/d?{word.name}={word.example}")

    assert word.name in str(caught.value)
    assert word.remedy in str(caught.value)
    if word.variable:
        with pytest.raises(ArgumentError, match=word.name):
            read("", **{word.variable: word.example})


def test_a_dropped_parameter_is_reported_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    from preheat.pools.asyncpg.connector import Connector

    with caplog.at_level("INFO", "preheat"):
        Connector(read("sslcompression=0&gssencmode=prefer"))

    [record] = caplog.records
    assert record.getMessage().endswith("change nothing here: sslcompression, gssencmode")


def test_variables_for_settings_of_the_session_are_sent() -> None:
    found = read("", **dict.fromkeys(SETTING_VARIABLES, "x"))

    assert found.settings == dict.fromkeys(SETTING_VARIABLES.values(), "x")


# The forms

SAME_AS_LIBPQ = [
    "postgresql://",
    "postgres://u:p@h:1/d",
    "postgresql://h1:1,h2:2,h3/d",
    "postgresql://u:p%40%2F%3a@[::1]:5432/d?application_name=a%20b+c&sslmode=require",
    "postgresql:///d?host=/tmp&port=1",
    "postgresql://%2Fvar%2Frun/d",
    "postgresql://h/d?host=other&user=someone",
    "postgresql://u:a:b@h",
    "postgresql://u@",
    "postgresql://h/a/b",
    "postgresql://u:[x]@h/d",
    "postgresql://u:x#y@h/d",
    "postgresql://h?sslmode=",
    "postgresql://h/d?options=-csearch_path%3Da%2Cb&options=-cgeqo%3Doff",
    "postgresql://h/d?ssl=true",
    "host=h port=1 dbname=d",
    "host = h  dbname = 'my db' password='it''s'",
    "user='a b' password='it\\'s \\\\ here' host=''",
    "host=h\nport=1",
    "password=a\\ b",
    "options='-c geqo=off' ",
    "host=h dbname=",
]


@pytest.mark.parametrize("dsn", SAME_AS_LIBPQ)
def test_a_dsn_is_read_as_libpq_reads_it(dsn: str) -> None:
    expected = libpq.parsed(dsn)
    if isinstance(expected, str):
        with pytest.raises(ArgumentError):
            _parsed(dsn)
    else:
        found = _parsed(dsn)
        if (mode := found.pop("ssl", None)) is not None:
            found["sslmode"] = {"true": "require"}[mode]
        if not expected.get("port", "").strip(","):
            expected.pop("port", None)
        assert found == expected


TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=12)


@given(TEXT, TEXT, TEXT, TEXT)
def test_percent_encoded_parts_are_decoded(user: str, password: str, database: str, value: str) -> None:
    words = [quote(text, safe="") for text in (user, password, database, value)]
    dsn = "postgresql://{}:{}@h:1/{}?application_name={}".format(*words)

    assert _parsed(dsn) == libpq.parsed(dsn)
    assert _parsed(dsn)["password"] == password


@given(TEXT, TEXT)
def test_quoted_words_come_out_as_they_were(password: str, database: str) -> None:
    def quoted(text: str) -> str:
        return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"

    dsn = f"host=h password={quoted(password)} dbname = {quoted(database)}"
    assert _parsed(dsn) == libpq.parsed(dsn) == {"host": "h", "password": password, "dbname": database}


@pytest.mark.parametrize("password", ["p@ss", "@", "a@b@c", "100%", "a+b", "a#b", "a[b]c", "a:b"])
def test_special_characters_in_a_password_need_no_encoding(password: str) -> None:
    found = connection_parameters(f"postgresql://u:{password}@h:1/d")

    assert (found.user, found.password, found.hosts) == ("u", password, (Host("h", 1),))


@pytest.mark.parametrize("scheme", ["postgresql+asyncpg", "postgresql+psycopg", "postgres+psycopg2", "PostgreSQL"])
def test_the_schemes_of_sqlalchemy_are_taken(scheme: str) -> None:
    found = connection_parameters(f"{scheme}://u:p@h:1/d?ssl=require")

    assert (found.target, found.tls.mode, found.password) == ("h:1/d", "require", "p")


def test_the_hosts_of_sqlalchemy_are_taken() -> None:
    found = connection_parameters("postgresql+asyncpg://u@/d?host=one:1&host=two:2")

    assert found.hosts == (Host("one", 1), Host("two", 2))


class SQLAlchemyURL:
    def __str__(self) -> str:
        return self.render_as_string()

    def render_as_string(self, hide_password: bool = True) -> str:
        return f"postgresql+asyncpg://u:{'***' if hide_password else 'secret'}@h/d"


class Secret:
    def __str__(self) -> str:
        return "**********"

    def get_secret_value(self) -> str:
        return "postgresql://u:secret@h/d"


class URL:
    def __str__(self) -> str:
        return "postgresql://u:secret@h/d"


@pytest.mark.parametrize("dsn", [SQLAlchemyURL(), Secret(), URL()])
def test_an_object_that_stands_for_a_dsn_is_taken(dsn: object) -> None:
    assert connection_parameters(dsn).password == "secret"
    assert is_dsn(dsn)


def test_the_urls_of_pydantic_and_sqlalchemy_are_taken_with_their_passwords() -> None:
    pydantic, sqlalchemy = pytest.importorskip("pydantic"), pytest.importorskip("sqlalchemy")
    url = sqlalchemy.make_url("postgresql+psycopg://u:s%40cret@h:5433/d")
    assert "***" in str(url)
    for dsn in (
        url,
        pydantic.PostgresDsn("postgresql+asyncpg://u:s%40cret@h:5433/d"),
        pydantic.TypeAdapter(pydantic.PostgresDsn).validate_python("postgres://u:s%40cret@h:5433/d"),
        pydantic.SecretStr("postgresql://u:s%40cret@h:5433/d"),
    ):
        found = connection_parameters(dsn)
        assert (found.user, found.password, found.database) == ("u", "s@cret", "d")
        assert found.hosts == (Host("h", 5433),)
        assert is_dsn(dsn)
        assert "s@cret" not in repr(open_pool(dsn))
    both = pydantic.PostgresDsn("postgresql://u:p@one:1,two:2/d")
    assert connection_parameters(both).hosts == (Host("one", 1), Host("two", 2))


@pytest.mark.parametrize("dsn", ["", "host=h", "postgresql://"])
def test_a_string_is_always_a_dsn_and_a_pool_never(dsn: str) -> None:
    assert is_dsn(dsn)
    assert not is_dsn(FakePool())
    assert not is_dsn(open_pool("postgresql://h/d"))


def test_a_hidden_password_and_a_wrong_one_are_told_apart() -> None:
    with pytest.raises(ArgumentError, match="hidden by asterisks"):
        open_pool(str(SQLAlchemyURL()))


@pytest.mark.parametrize(
    ("dsn", "words"),
    [
        ("", "empty"),
        ("mysql://u:secret@host/db", "not a PostgreSQL URL"),
        ("jdbc:postgresql://h/db?user=u&password=secret", "leave out jdbc:"),
        ("'postgresql://u:secret@h/d'", "quotes"),
        ("localhost", "not a PostgreSQL URL"),
        ("postgresql://u:p@secret/x@host/db", "taken apart"),
        ("postgresql://u:secret/x@host/db", "taken apart"),
        ("postgresql://u:secret?x@host/db", "taken apart"),
        ("postgresql://u:1?secret@h/db", "taken apart"),
        ("postgresql://u:secret@h/db?novalue", "taken apart"),
        ("postgresql://u:secret@h:99999/db", "taken apart"),
        ("postgresql://u:secret@h#x/db", "taken apart"),
        ("host=h password='secret", "single quotes"),
        ("host=h password=secret more", "single quotes"),
        ("postgresql://u:secret@a,b/d?port=1,2,3", "3 ports and 2 hosts"),
        ("postgresql://u:secret@a,b/d?hostaddr=1.2.3.4", "2 in host and 1 in hostaddr"),
        ("postgresql://u:secret@h/d?host=@abstract", "abstract"),
        ("postgresql://u:secret@h/d?sslMode=require", "do you mean sslmode"),
        ("postgresql://u:secret@h/d?ssl-mode=require", "do you mean ssl"),
        ("postgresql://u:secret@h/d?conect_timeout=1", "do you mean connect_timeout"),
        ("postgresql://u:secret@h/d?sslwhatever=1", "does not know"),
        ("postgresql://u:secret@h/d?ssl=perhaps", "write sslmode="),
        ("postgresql://u:secret@h/d?connect_timeout=soon", "connect_timeout"),
        ("postgresql://u:secret@h/d?sslmode=require&sslrootcert=system", "too weak"),
        ("postgresql://u:secret@h/d?sslnegotiation=direct", "too weak"),
        ("postgresql://u:secret@h/d?channel_binding=require&sslmode=disable", "channel_binding=require needs TLS"),
        ("postgresql://u:secret@/d?channel_binding=require&host=/run", "channel_binding=require needs TLS"),
        ("postgresql://u:secret@h/d?ssl_min_protocol_version=SSLv3", "TLSv1.2"),
        ("postgresql://u:secret@h/d?service=nosuch", "'nosuch' is not defined"),
        ("postgresql://u:secret@h/d?service=x&servicefile=/no/such/file", "does not exist"),
    ],
)
def test_a_dsn_that_cannot_be_right_is_refused_without_showing_it(dsn: str, words: str) -> None:
    with pytest.raises(ArgumentError, match=words) as caught:
        open_pool(dsn)

    assert "secret" not in str(caught.value)
    assert caught.value.__context__ is None or "secret" not in str(caught.value.__context__)


def test_nothing_that_holds_a_dsn_shows_its_password() -> None:
    found = connection_parameters("postgresql://u:secret@h/d?sslpassword=secret&sslkey=k")

    assert "secret" not in f"{found!r} {found.tls!r} {found.target} {open_pool('postgresql://u:secret@h/d')!r}"


@pytest.mark.parametrize(
    ("dsn", "shown"),
    [
        ("postgresql://u:secret@db.example:5432/app", "db.example:5432/app"),
        ("postgres://db/app?sslmode=require", "db:5432/app"),
        ("postgresql://u:se%40cret@[::1]:5432/app", "[::1]:5432/app"),
        ("postgresql://u:secret@one:1,two:2/app", "one:1,two:2/app"),
        ("postgresql://postgres@/postgres?host=/run/pg", "local socket/postgres"),
        ("postgresql:///app", "local socket/app"),
        ("postgresql:///app?host=db&port=6432", "db:6432/app"),
        ("host=db dbname=app", "db:5432/app"),
        ("postgresql://u@/?hostaddr=10.0.0.1", "10.0.0.1:5432/u"),
        ("postgresql:///d?host=/cloudsql/p:r:i", "local socket/d"),
    ],
)
def test_a_database_is_called_by_its_place(dsn: str, shown: str) -> None:
    assert connection_parameters(dsn, {}).target == shown


def test_no_timeout_of_libpqs_is_no_bound() -> None:
    assert read("connect_timeout=0").connect_timeout == math.inf
    assert read("").seconds == 10
    assert read("connect_timeout=4&host=a,b").seconds == 8


def test_a_setting_of_the_server_is_passed_on() -> None:
    assert read("search_path=app&statement_timeout=5000&my.tenant=7").settings == {
        "search_path": "app",
        "statement_timeout": "5000",
        "my.tenant": "7",
    }


# Files


def test_a_service_says_what_the_dsn_does_not(tmp_path: Path) -> None:
    file = tmp_path / "services"
    file.write_text(
        "# comment\n[other]\nhost=no\n\n[mine]\nhost=db\nport=6432\napplication_name=from-service\n[last]\n"
    )
    environment = {"PGSERVICEFILE": str(file), "PGHOST": "no", "PGUSER": "someone"}

    found = connection_parameters("postgresql:///d?service=mine&port=1", environment)

    assert (found.target, found.user, found.settings["application_name"]) == ("db:1/d", "someone", "from-service")
    assert connection_parameters("postgresql:///d", {**environment, "PGSERVICE": "mine"}).target == "db:6432/d"
    assert connection_parameters(f"service=mine servicefile={file}", {"PGUSER": "u"}).target == "db:6432/u"


def test_a_service_may_be_in_the_home_or_the_system_folder(tmp_path: Path) -> None:
    home, system = tmp_path / "home", tmp_path / "system"
    for folder in (home, system):
        folder.mkdir()
    (home / ".pg_service.conf").write_text("[one]\nhost=first\n")
    (system / "pg_service.conf").write_text("[one]\nhost=second\n[two]\nhost=second\n")
    environment = {"HOME": str(home), "PGSYSCONFDIR": str(system), "PGUSER": "u"}

    assert connection_parameters("service=one", environment).target == "first:5432/u"
    assert connection_parameters("service=two", environment).target == "second:5432/u"


@pytest.mark.parametrize("line", ["nonsense", "no_such_word=1", "service=other"])
def test_a_meaningless_line_of_a_service_file_is_reported(tmp_path: Path, line: str) -> None:
    file = tmp_path / "services"
    file.write_text(f"[mine]\nhost=db\n{line}\n")

    with pytest.raises(ArgumentError, match="line 3 of the service file"):
        read("service=mine", PGSERVICEFILE=str(file))


@pytest.fixture
def passfile(tmp_path: Path) -> Path:
    file = tmp_path / "pgpass"
    file.write_text(
        "# a comment\n"
        "one:1:d:u:first\n"
        "two:*:d:u:with\\:colon\\\\and\n"
        "localhost:5432:*:u:socket\n"
        "\\:\\:1:5432:d:u:six\n"
        "nonsense\n"
        "*:*:*:other:last\n"
    )
    file.chmod(0o600)
    return file


@pytest.mark.parametrize(
    ("host", "port", "user", "password"),
    [
        ("one", 1, "u", "first"),
        ("one", 2, "u", None),
        ("two", 7, "u", "with:colon\\and"),
        ("/run/postgresql", 5432, "u", "socket"),
        ("::1", 5432, "u", "six"),
        ("anywhere", 1, "other", "last"),
    ],
)
def test_a_password_file_has_a_password_for_each_host(
    passfile: Path, host: str, port: int, user: str, password: str | None
) -> None:
    assert read_password(str(passfile), host, port, "d", user) == password


def test_a_password_file_that_others_may_read_is_not_used(passfile: Path, caplog: pytest.LogCaptureFixture) -> None:
    passfile.chmod(0o644)

    assert read_password(str(passfile), "one", 1, "d", "u") is None
    assert "chmod 0600" in caplog.text


@pytest.mark.parametrize("name", ["no-such-file", ""])
def test_without_a_password_file_there_is_no_password(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))

    assert read_password(str(tmp_path / name) if name else "", "one", 1, "d", "u") is None
    assert read_password(str(tmp_path), "one", 1, "d", "u") is None  # a folder


def test_each_variable_belongs_to_one_parameter() -> None:
    assert len(VARIABLES) == sum(bool(word.variable) for word in WORDS.values())


def test_database_is_another_word_for_dbname() -> None:
    assert connection_parameters("host=h database=d", {"PGUSER": "u"}).database == "d"
