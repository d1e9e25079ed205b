"""The command line, in process and as a process."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.support.pdf import pdf
from tests.support.server import Server, free_port
from tests.support.tiers import slow_except

from preheat.cli import commands
from preheat.cli.app import COMMANDS
from preheat.cli.commands.demo import next_command
from preheat.cli.options import Database


def test_ingest_then_search_then_collections(preheat: Any, library: Path, collection: str, backend: str) -> None:
    result = preheat("ingest", str(library), "-c", collection, "--backend", backend)
    assert result.exit_code == 0
    assert "stored 3 documents as 2 chunks" in " ".join(result.stdout.split())

    result = preheat("search", "when do I pay taxes?", "-k", "1", "-c", collection, "--backend", backend, "--json")
    (hit,) = json.loads(result.stdout)
    assert hit["document"].endswith("deep/tax.txt")
    assert hit["text"] == "Income tax is due in May."

    result = preheat("search", "sleepy animals", "-c", collection, "--backend", backend)
    assert result.exit_code == 0
    assert "A cat sleeps" in result.stdout

    infos = json.loads(preheat("collections", "--json", "--backend", backend).stdout)
    (info,) = [info for info in infos if info["name"] == collection]
    assert (info["chunks"], info["dimensions"]) == (2, 256)
    assert collection in preheat("collections").stdout


def test_a_search_is_narrowed_by_a_filter_and_a_least_score(
    preheat: Any, library: Path, collection: str, backend: str
) -> None:
    preheat("ingest", str(library), "-c", collection)
    search = ("search", "when do I pay taxes?", "-c", collection, "--backend", backend)
    assert len(json.loads(preheat(*search, "--filter", '{"start": {"$lt": 1}}', "--json").stdout)) == 2
    everything = json.loads(preheat(*search, "--filter", "{}", "--json").stdout)
    assert len(everything) == 2
    least = str(everything[0]["score"] - 1e-6)
    assert json.loads(preheat(*search, "--min-score", least, "--json").stdout) == everything[:1]

    result = preheat(*search, "--filter", '{"start": 99}')
    assert result.exit_code == 0
    assert "no chunk passes" in result.stdout
    assert json.loads(preheat(*search, "--filter", '{"start": 99}', "--json").stdout) == []


def test_a_search_is_hybrid_and_its_hits_differ(preheat: Any, library: Path, collection: str, backend: str) -> None:
    preheat("ingest", str(library), "-c", collection)
    search = ("search", "income taxes", "-c", collection, "--backend", backend)
    hits = json.loads(preheat(*search, "--hybrid", "--json").stdout)
    assert [(hit["vector_rank"], hit["text_rank"]) for hit in hits] == [(1, 1), (2, None)]
    result = preheat(*search, "--hybrid", "--mmr", "0.5")
    assert result.exit_code == 0
    assert "vector 1, words 1" in result.stdout
    assert "vector 2, words -" in result.stdout
    assert "0.0328" in result.stdout
    assert "vector 1" not in preheat(*search, "--mmr", "0.5").stdout
    assert len(json.loads(preheat(*search, "--hybrid", "--filter", '{"start": 99}', "--json").stdout)) == 0
    without = ("search", "animals -cat -tax", "-c", collection, "--backend", backend)
    assert "A cat sleeps" in preheat(*without, "--hybrid").stdout
    assert "A cat sleeps" not in preheat(*without, "--without", "cat").stdout
    assert "no chunk passes" in preheat(*without, "--without", "cat", "--without", "tax").stdout
    assert preheat(*without, "--without", "?!").exit_code == 2


def test_a_plan_says_which_index_served(preheat: Any, library: Path, collection: str, backend: str) -> None:
    preheat("ingest", str(library), "-c", collection)
    explain = ("explain", "income taxes", "-c", collection, "--backend", backend)
    result = preheat(*explain)
    assert result.exit_code == 0
    assert "served the vectors" in result.stdout
    assert "└── " in result.stdout
    told = json.loads(preheat(*explain, "--hybrid", "--without", "cat", "--mmr", "0.5", "-k", "3", "--json").stdout)
    assert "websearch_to_tsquery" in told["statement"]
    assert told["execution_seconds"] > 0
    assert told["tree"]["children"]


def test_ingesting_again_replaces(preheat: Any, library: Path, collection: str) -> None:
    preheat("ingest", str(library), "-c", collection)
    (library / "cats.md").write_text("Dogs bark.")
    report = json.loads(preheat("ingest", str(library), "-c", collection, "--json").stdout)
    assert (report["documents"], report["chunks"], report["skipped"]) == (3, 2, {})

    hits = json.loads(preheat("search", "animals", "-c", collection, "--json").stdout)
    assert {hit["text"] for hit in hits} == {"Dogs bark.", "Income tax is due in May."}


def test_a_file_that_is_no_text_is_named_and_skipped_and_the_exit_code_says_so(
    preheat: Any, library: Path, collection: str
) -> None:
    (library / "latin.txt").write_bytes("Stra\xdfe".encode("latin-1"))
    (library / "zero.txt").write_bytes(b"a\0b")
    result = preheat("ingest", str(library), str(library / "photo.png"), "-c", collection, "--json")

    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["documents"] == 3
    assert {Path(name).name for name in report["skipped"]} == {"latin.txt", "zero.txt", "photo.png"}
    assert "latin.txt is not UTF-8 text (byte 4)" in result.stderr


def test_a_document_that_the_database_refuses_is_named_and_all_others_are_stored(
    preheat: Any, server: Server, library: Path, collection: str, backend: str
) -> None:
    ingest = ("ingest", str(library), "-c", collection, "--backend", backend)
    assert preheat(*ingest).exit_code == 0
    server.sql(f"ALTER TABLE \"preheat_{collection}\" ADD CHECK (text NOT LIKE '%forbidden%');", "tests")
    (library / "cats.md").write_text("This is forbidden.")
    (library / "dogs.md").write_text("Dogs bark.")
    (library / "zero.txt").write_bytes(b"a\0b")

    result = preheat(*ingest, "--sync", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert {Path(failure["document"]).name for failure in report["failures"]} == {"cats.md", "zero.txt"}
    assert (report["documents"], report["gone"]) == (3, [])
    (failed,) = [line for line in result.stderr.split("\n") if line.startswith("failed: ")]
    assert "cats.md" in failed
    assert "skipped: " in result.stderr
    hits = json.loads(preheat("search", "animals", "-c", collection, "--json").stdout)
    assert {hit["text"] for hit in hits} == {
        "# Cats\n\nA cat sleeps for most of the day.",
        "Dogs bark.",
        "Income tax is due in May.",
    }
    assert "skipped 2" in " ".join(preheat(*ingest).stdout.split())


def test_html_and_pdf_are_stored_and_what_is_broken_is_named(
    preheat: Any, library: Path, collection: str, backend: str
) -> None:
    (library / "kettle.html").write_text("<title>Tea</title><nav>Home</nav><h1>Tea</h1><p>It steeps for four minutes.")
    (library / "deep" / "coffee.pdf").write_bytes(pdf(["Coffee is ground first."], title="Coffee"))
    (library / "broken.pdf").write_bytes(pdf(["Nobody reads this."])[:70])
    (library / "locked.pdf").write_bytes(pdf(["Nobody reads this."], encrypted=True))
    (library / "scan.pdf").write_bytes(pdf([""]))
    (library / "app.html").write_text("<script>start()</script>")
    result = preheat("ingest", str(library), "-c", collection, "--backend", backend, "--json")

    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["documents"] == 5
    assert {Path(name).name: reason.split(";")[0] for name, reason in report["skipped"].items()} == {
        "app.html": "is an HTML page without text",
        "broken.pdf": "is not a PDF, or a damaged one",
        "locked.pdf": "is an encrypted PDF",
        "scan.pdf": "is a PDF without text, of pictures perhaps",
    }
    assert "skipped: " in result.stderr
    assert f"{library.as_posix()}/broken.pdf is not a PDF, or a damaged one\n" in result.stderr

    search = ("search", "what to drink", "-c", collection, "--backend", backend, "--json", "--filter")
    (tea,) = json.loads(preheat(*search, '{"title": "Tea"}').stdout)
    assert (tea["text"], tea["metadata"]) == ("# Tea\n\nIt steeps for four minutes.", {"title": "Tea", "start": 0})
    (coffee,) = json.loads(preheat(*search, '{"pages": 1}').stdout)
    assert (coffee["text"], coffee["metadata"]["title"]) == ("Coffee is ground first.", "Coffee")


def test_standard_input_is_a_document(preheat: Any, collection: str, backend: str) -> None:
    ingest = ("ingest", "-", "-c", collection, "--backend", backend, "--json")
    for arguments, data in (
        ((), "Straße: ein Weg.".encode()),
        (("--name", "notes/tea.md"), b"# Tea\n\nIt steeps."),
        (("--name", "coffee", "--format", "html"), b"<p>Ground <b>first</b>."),
        (("--name", "juice"), pdf(["Pressed oranges"])),
    ):
        report = json.loads(preheat(*ingest, *arguments, input=data).stdout)
        assert (report["documents"], report["chunks"], report["skipped"]) == (1, 1, {})

    hits = json.loads(preheat("search", "drinks", "-c", collection, "--json").stdout)
    assert {hit["document"]: hit["text"] for hit in hits} == {
        "stdin": "Straße: ein Weg.",
        "notes/tea.md": "# Tea\n\nIt steeps.",
        "coffee": "Ground first.",
        "juice": "Pressed oranges",
    }


def test_an_empty_standard_input_does_not_replace_what_is_stored(preheat: Any, collection: str) -> None:
    preheat("ingest", "-", "-c", collection, input=b"something")
    result = preheat("ingest", "-", "-c", collection, input=b"")

    assert result.exit_code == 1
    assert "skipped: stdin is empty: nothing came on standard input" in result.stderr
    assert len(json.loads(preheat("search", "x", "-c", collection, "--json").stdout)) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders")
def test_ctrl_c_ends_a_command_that_waits_for_input(tmp_path: Path, dsn: str, collection: str, backend: str) -> None:
    pipe = tmp_path / "pipe.md"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "preheat", "ingest", str(pipe), "-c", collection, "--backend", backend]
    environment = {**os.environ, "PREHEAT_DSN": dsn}
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as process:
        with pipe.open("wb"):  # returns when the command has begun to read
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=30)

    assert process.returncode == 130
    assert told.strip().endswith("interrupted: nothing new is stored; run the same command again to go on")
    assert "Traceback" not in told


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders")
@pytest.mark.parametrize("backend", slow_except(("asyncio",), ("asyncio", "trio")))
def test_ctrl_c_stops_the_embedded_server(tmp_path: Path, folder: Path, backend: str) -> None:
    (tmp_path / "first.md").write_text("A cat sleeps.")
    pipe = tmp_path / "pipe.md"
    os.mkfifo(pipe)
    environment = {**os.environ, "PREHEAT_DATA": str(folder)}
    command = [sys.executable, "-m", "preheat", "ingest", str(tmp_path / "first.md"), str(pipe), "--backend", backend]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as process:
        with pipe.open("wb"):
            assert (folder / "postmaster.pid").exists()
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "interrupted: " in told
    assert "Traceback" not in told
    assert not (folder / "postmaster.pid").exists()


def test_metadata_is_given_to_every_chunk(preheat: Any, library: Path, collection: str, backend: str) -> None:
    (library / "tea.html").write_text("<title>Tea</title><p>It steeps.")
    given = '{"lang": "en", "title": "mine"}'
    preheat("ingest", str(library), "-c", collection, "--metadata", given, "--backend", backend)
    preheat("ingest", "-", "-c", collection, "--metadata", '{"lang": "de"}', input=b"Katzen schlafen viel.")

    search = ("search", "cats", "-c", collection, "--json", "--filter")
    (german,) = json.loads(preheat(*search, '{"lang": "de"}').stdout)
    assert (german["document"], german["metadata"]) == ("stdin", {"lang": "de", "start": 0})
    english = json.loads(preheat(*search, '{"lang": "en"}').stdout)
    assert [hit["metadata"]["title"] for hit in english] == ["mine"] * 3


@pytest.mark.parametrize("missing", ["bs4", "pypdfium2"])
def test_without_the_extra_what_needs_it_is_skipped(
    preheat: Any, library: Path, collection: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    (library / "tea.html").write_text("<p>It steeps.")
    (library / "coffee.pdf").write_bytes(pdf(["Ground first"]))
    result = preheat("ingest", str(library), "-c", collection, "--json")

    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["documents"] == 4
    (reason,) = report["skipped"].values()
    assert reason.endswith("needs an optional part; install it with: pip install 'preheat[documents]'")


def test_warm_prints_a_row_for_each_connection(preheat: Any, backend: str) -> None:
    result = preheat("warm", "--connections", "4", "--backend", backend)
    assert result.exit_code == 0
    assert "4 of 4 connections hot" in result.stdout
    assert result.stdout.count(" hot ") >= 4

    report = json.loads(preheat("warm", "--json", "--backend", backend).stdout)
    assert (report["ok"], report["hot"]) == (True, 3)
    assert len({connection["pid"] for connection in report["connections"]}) == 3


def test_warm_fails_with_exit_code_1_and_a_report(preheat: Any) -> None:
    down = f"postgresql://u:s3cret@127.0.0.1:{free_port()}/db"
    result = preheat("warm", "--dsn", down, "--json", "--timeout", "0.5")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["ok"] is False
    assert "ConnectError" in preheat("warm", "--dsn", down, "--timeout", "0.5").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("search", "x", "-c", "nothing-here"), "there is no collection 'nothing-here'"),
        (("search", ""), "the query is empty"),
        (("search", "x", "-k", "0"), "k is 0"),
        (("search", "x", "--mmr", "2"), "mmr is 2.0"),
        (("explain", "x", "-c", "nothing-here"), "there is no collection 'nothing-here'"),
        (("explain", ""), "the query is empty"),
        (("search", "x", "--min-score", "nan"), "min_score is nan"),
        (("search", "x", "--filter", "lang=en"), "--filter is not JSON"),
        (("search", "x", "--filter", "[" * 100_000), "--filter is not JSON"),
        (("search", "x", "--filter", "[1]"), "--filter is [1]; give an object"),
        (("search", "x", "--filter", '{"a": NaN}'), "is not JSON"),
        (("search", "x", "--filter", '{"a": {"$regex": "b"}}'), "'$regex' is no operator"),
        (("search", "x", "--dsn", "mysql://u:s3cret@h/d"), "the DSN is not a PostgreSQL URL"),
        (("search", "x", "--dsn", "postgresql://u:s3cret@127.0.0.1:1/d"), "no connection to 127.0.0.1:1/d"),
        (("warm", "--connections", "20"), "connections is 20 and the pool has 10"),
        (("warm", "--size", "0"), "size is 0, and a pool has at least 1 connection"),
        (("warm", "--size", "-3"), "size is -3, and a pool has at least 1 connection"),
        (("warm", "--timeout", "0"), "warm_timeout is 0"),
        (("warm", "--prepare", "maybe"), "--prepare is 'maybe'; give auto, true or false"),
        (("demo", "--connect-timeout", "0"), "connect_timeout is 0.0; give a positive number of seconds"),
        (("search", "x", "--max-replica-lag", "0.5"), "max_replica_lag is 0.5; give at least 1 second"),
        (("ingest", "no/such/file.txt"), "does not exist"),
        (("ingest", "n" * 5000), "n… does not exist"),
        (("ingest", "no/such/**/*.md"), "no/such/**/*.md matches no file; check the pattern"),
        (("ingest", str(Path(__file__)), "--name", "x"), "--name is the key of what comes on standard input"),
        (("ingest", "-", "--name", " "), "--name is empty"),
        (("ingest", "-", "--name", "a\0b"), "the value of --name holds a NUL character"),
        (("ingest", "-", "--metadata", "lang=en"), "--metadata is not JSON"),
        (("ingest", "-", "--metadata", "[" * 100_000), "--metadata is not JSON"),
        (("ingest", "-", "--metadata", "[1]"), "--metadata is [1]; give an object"),
        (("ingest", "-", "--metadata", '{"a": NaN}'), "the value of --metadata is not JSON"),
        (("ingest", "-", "--metadata", '{"a": "\\u0000"}'), "the value of --metadata holds a NUL character"),
        (("ingest", "-", "--metadata", '{"a": "\\ud800"}'), "the value of --metadata is not JSON"),
        (("ingest", "-", "--metadata", '{"start": 1}'), "--metadata has start, which is where a chunk begins"),
        (("ingest", str(Path(__file__).parent)), "there is no file that can be read"),
        (("collections", "--dsn", "", "--data", "/no/such/folder/data"), "/no/such/folder does not exist"),
    ],
)
def test_a_mistake_is_reported_in_a_sentence(preheat: Any, arguments: tuple[str, ...], words: str) -> None:
    gc.collect()  # of earlier tests: at the bottom of a deep recursion it would have no room
    result = preheat(*arguments)

    assert result.exit_code == (1 if words.startswith(("there is no collection", "no connection", "/no/such")) else 2)
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert words in " ".join(result.stderr.split())


def test_an_unexpected_error_is_reported_without_a_traceback(
    preheat: Any, library: Path, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: str) -> None:
        raise RuntimeError("the model's library has a bad day")

    monkeypatch.setattr("preheat.cli.commands.ingest.model_of", fail)
    result = preheat("ingest", str(library), "--backend", backend)
    assert result.exit_code == 1
    assert "error: RuntimeError: the model's library has a bad day\nset PREHEAT_LOG=debug" in result.stderr


def test_a_wrong_password_is_reported_in_a_sentence(preheat: Any, server: Server) -> None:
    result = preheat("collections", "--dsn", server.dsn("tests", password="s3cret-but-wrong"))
    assert result.exit_code == 1
    assert "check the user and the password" in " ".join(result.stderr.split())


def test_a_database_error_is_reported_in_a_sentence(preheat: Any, server: Server, database: str) -> None:
    server.sql("CREATE TABLE preheat_collections (name text);", database)
    result = preheat("collections", "--dsn", server.dsn(database))
    assert result.exit_code == 1
    assert result.stderr.startswith('error: the table "preheat_collections" ')


def test_a_wrong_command_line_is_exit_code_2(preheat: Any) -> None:
    assert preheat("search").exit_code == 2
    assert preheat("no-such-command").exit_code == 2
    assert preheat("warm", "--backend", "curio").exit_code == 2


def test_version_and_help(preheat: Any) -> None:
    assert preheat("--version").stdout.startswith("preheat 0.")
    assert preheat("-h").stdout == preheat("--help").stdout
    assert "..." not in preheat("-h", env={"COLUMNS": "60"}).stdout.partition("Commands:")[2], "no help is cut off"
    files = Path(commands.__file__).parent.glob("[!_]*.py")
    assert set(COMMANDS) == {path.stem for path in files}
    for command in COMMANDS:
        assert f"  {command} " in preheat("--help").stdout
        told = preheat(command, "-h")
        assert told.exit_code == 0
        assert f" {command} [OPTIONS]" in told.stdout


def test_the_demo_reports_json(preheat: Any) -> None:
    result = preheat("demo", "--backend", "trio", "--json")

    report = json.loads(result.stdout)
    assert (report["backend"], report["documents"], report["rounds"]) == ("trio", 79, 5)
    assert set(report["times_steady"]) == {"cold", "after_select_1", "after_warm_up"}
    assert all(seconds > 0 for seconds in report["first_answer_seconds"].values())
    assert report["simulated_round_trip_seconds"] is None
    for asked in report["questions"]:
        first, *others = [" ".join(hit["text"].split())[-200:] for hit in asked["hits"]]
        assert others
        assert first not in others


def test_the_demo_shows_hits_and_times(preheat: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/preheat"])
    monkeypatch.setattr(
        "preheat.cli.commands.demo.out", console := Console(width=60, force_terminal=True, color_system=None)
    )
    with console.capture() as captured:
        result = preheat("demo")
    shown = captured.get()
    assert "decorator" in result.stdout
    for words in ("no warm-up", "SELECT 1 on each", "a full warm-up", "steady", "█", "your database"):
        assert words in shown
    *_, last = shown.splitlines()
    assert last == "Go on with: preheat search 'What does the global statement do?' -c python-reference"
    lines = shown.splitlines()
    assert all(len(line.rstrip()) <= 60 for line in lines[:-1])
    assert "…" not in "".join(line for line in lines if "█" in line)


@pytest.mark.slow
def test_the_demo_simulates_a_network_to_the_embedded_server(preheat: Any, folder: Path, backend: str) -> None:
    demo = ("demo", "--data", str(folder), "--backend", backend, "--json")
    report = json.loads(preheat(*demo, env={"PREHEAT_DSN": ""}).stdout)
    assert report["simulated_round_trip_seconds"] == 0.02
    assert report["steady_seconds"] >= 0.02
    assert report["first_answer_seconds"]["cold"] >= 0.04


def test_the_command_after_the_demo_works_from_where_the_user_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREHEAT_DSN", "PREHEAT_DATA", "UV_RUN_RECURSION_DEPTH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["/usr/bin/preheat"])
    search = "search 'What does the global statement do?' -c python-reference"
    assert next_command(Database()) == f"preheat {search}"
    assert next_command(Database(data=Path("my data"))) == f"preheat {search} --data 'my data'"
    assert next_command(Database(dsn="postgresql://me:s3cret@host/x")) == f"preheat {search} --dsn ..."
    monkeypatch.setenv("PREHEAT_DATA", "my data")
    assert next_command(Database(data=Path("my data"))) == f"preheat {search}"
    monkeypatch.setattr(sys, "argv", ["/lib/preheat/__main__.py"])
    assert next_command(Database()) == f"python -m preheat {search}"
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    assert next_command(Database()) == f"uv run preheat {search}"


def test_without_a_dsn_an_embedded_postgresql_is_used(folder: Path, library: Path) -> None:
    """As a process, with nothing configured: the data stays in the folder for the next command."""
    environment = {**os.environ, "PREHEAT_DATA": str(folder)}
    environment.pop("PREHEAT_DSN", None)

    def preheat(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "preheat", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)

    assert preheat("search", "cats").returncode == 1
    assert preheat("ingest", str(library)).returncode == 0
    found = preheat("search", "cats", "--json")
    assert (found.returncode, found.stderr) == (0, "")
    assert json.loads(found.stdout)[0]["document"].endswith("cats.md")


def test_database_url_is_read_after_preheat_dsn_and_a_folder(preheat: Any, dsn: str, folder: Path) -> None:
    elsewhere = "postgresql://nobody@127.0.0.1:1/nowhere"
    given = preheat("collections", env={"DATABASE_URL": elsewhere})
    assert given.exit_code == 0, "PREHEAT_DSN takes precedence"
    for url, code, words in ((dsn, 0, ""), (elsewhere, 1, "127.0.0.1:1")):
        result = preheat("collections", env={"PREHEAT_DSN": "", "DATABASE_URL": url})
        assert result.exit_code == code, result.output
        assert words in result.output
    assert Database(dsn="", data=folder).url is None
    assert Database().url is None


def test_ingesting_again_says_what_has_changed(preheat: Any, library: Path, collection: str, backend: str) -> None:
    ingest = ("ingest", str(library), "-c", collection, "--backend", backend)
    first = preheat(*ingest)
    assert "2 added, 0 changed, 0 unchanged, 0 deleted" in " ".join(first.stdout.split())
    assert "making the index of the vectors" in first.stderr
    (library / "cats.md").write_text("Dogs bark.")
    again = preheat(*ingest)
    assert "1 added, 0 changed, 1 unchanged, 1 deleted" in " ".join(again.stdout.split())
    assert "making" not in again.stderr
    report = json.loads(preheat(*ingest, "--json").stdout)
    assert {name: report[name] for name in ("documents", "chunks", "added", "changed", "unchanged", "deleted")} == {
        "documents": 3,
        "chunks": 2,
        "added": 0,
        "changed": 0,
        "unchanged": 2,
        "deleted": 0,
    }


def run_preheat(dsn: str, *arguments: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", f'exec "$0" -m preheat "$@" {shell}', sys.executable, *arguments]
    env = {**os.environ, "PREHEAT_DSN": dsn, **environment}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no sh")
def test_a_terminal_without_unicode_shows_what_it_can(preheat: Any, dsn: str, library: Path, collection: str) -> None:
    (library / "tea.txt").write_text("Für den Tee: ½ Liter Wasser ☕ kochen.", encoding="utf-8")
    preheat("ingest", str(library), "-c", collection)

    done = run_preheat(dsn, "search", "Tee", "-k", "1", "-c", collection, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert r"F\xfcr den Tee" in done.stdout


def test_no_line_is_broken_in_a_pipe(dsn: str, library: Path, collection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    (library / "tea.txt").write_text("Black tea steeps for four minutes. " * 10)
    stored = run_preheat(dsn, "ingest", str(library / "tea.txt"), "-c", collection)
    assert stored.stdout.startswith(f"stored 1 document as 1 chunk in collection {collection} in ")
    assert stored.stdout.endswith(" s: 1 added, 0 changed, 0 unchanged, 0 deleted\n")
    assert stored.stdout.count("\n") == 1

    _, _, first, second, text = run_preheat(dsn, "search", "tea", "-c", collection).stdout.splitlines()
    assert first.endswith("  " + str(library / "tea.txt"))
    assert second.startswith("       id ")
    assert len(text) > 200


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", [("collections",), ("--version",)])
def test_output_to_a_full_disk_is_an_error_in_a_sentence(dsn: str, arguments: tuple[str, ...]) -> None:
    done = run_preheat(dsn, *arguments, shell=">/dev/full")
    assert done.returncode == 1
    assert "error: the output cannot be written: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in use cannot be deleted")
def test_a_current_folder_that_was_deleted_is_an_error_in_a_sentence(
    preheat: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()

    result = preheat("ingest", ".")
    assert result.exit_code == 2
    assert "cannot be resolved (No such file or directory); change to a folder that exists" in result.stderr
