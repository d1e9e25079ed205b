"""Run the suites of frameworks, each in an environment of its own, and tell how many tests pass: `just compat`."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "integrations.md"
BEGIN, END = "<!-- what `just compat --docs` found -->", "<!-- end -->"


@dataclass(frozen=True)
class Peer:
    """A framework, or a library that shares a dependency."""

    name: str
    packages: tuple[str, ...]
    """The packages to install beside preheat."""
    tests: str
    """The file of tests."""
    suites: dict[str, str]
    """The peer's own suites: the names of the classes that run them, and those by which the peer knows them."""
    extra: str = ""
    """The extra of preheat."""
    marks: str = "not slow"
    """Which of the tests."""


PEERS = (
    Peer(
        "langchain",
        ("langchain-tests",),
        "test_langchain.py",
        {
            "TestVectorStore": "LangChain: `VectorStoreIntegrationTests` of langchain-tests",
            "TestRetriever": "LangChain: `RetrieversIntegrationTests` of langchain-tests",
        },
        "langchain",
    ),
    Peer(
        "haystack",
        ("haystack-ai",),
        "test_haystack.py",
        {
            "TestDocumentStore": "Haystack: the suites of `haystack.testing.document_store`",
            "TestDocumentStoreAsync": "Haystack: the suites of `haystack.testing.document_store_async`",
        },
        "haystack",
    ),
    Peer("llama-index", ("llama-index-core",), "test_llama_index.py", {}, "llama-index"),
    Peer(
        "pools",
        ("tortoise-orm", "piccolo", "databases", "sqlmodel"),
        "test_inner_pools.py",
        {},
        marks="slow or not slow",
    ),
    Peer("versions", ("langchain-postgres", "llama-index-vector-stores-postgres"), "test_peers.py", {}),
)


def run(peer: Peer, arguments: list[str]) -> tuple[int, dict[str, Counter[str]]]:
    """Run the tests of a peer. Returns the exit code of pytest, and the outcomes of each class."""
    report = ROOT / "build" / f"compat-{peer.name}.xml"
    report.parent.mkdir(exist_ok=True)
    report.unlink(missing_ok=True)
    extras = ["trio", "embedded", "testing", *([peer.extra] if peer.extra else [])]
    command = ["uv", "run", "--isolated", "--no-default-groups", "--group", "tools", "--group", "peers"]
    command += [word for extra in extras for word in ("--extra", extra)]
    command += [word for package in peer.packages for word in ("--with", package)]
    tests = [f"tests/compat/{peer.tests}", *(["docs/how-to/rag-frameworks.md"] if peer.extra else [])]
    pytest = ["pytest", "-q", "-n", "0", "-m", peer.marks, "-p", "asyncio", "-o", "filterwarnings="]
    pytest.append(f"--junitxml={report}")
    print(f"{peer.name}: {' '.join([*command, *pytest, *tests])}", flush=True)
    done = subprocess.run([*command, *pytest, *tests, *arguments], cwd=ROOT, check=False)
    return done.returncode, outcomes(report)


def outcomes(report: Path) -> dict[str, Counter[str]]:
    """How many tests of each class have passed, failed and been skipped."""
    counted: dict[str, Counter[str]] = {}
    for case in ET.parse(report).iter("testcase") if report.exists() else ():
        kinds = {child.tag for child in case}
        outcome = "failed" if kinds & {"failure", "error"} else "skipped" if "skipped" in kinds else "passed"
        counted.setdefault(case.get("classname", "").rpartition(".")[2], Counter())[outcome] += 1
    return counted


def table(found: dict[str, dict[str, Counter[str]]]) -> str:
    """The table of the docs."""
    lines = ["| suite | passed | failed | not applicable |", "| --- | --- | --- | --- |"]
    for peer in PEERS:
        if peer.name not in found:
            continue
        own: Counter[str] = Counter()
        for name, counted in found[peer.name].items():
            if name in peer.suites:
                lines.append(f"| {peer.suites[name]} | {_numbers(counted)} |")
            else:
                own += counted
        title = ", ".join(f"`{package}`" for package in peer.packages)
        lines.append(f"| preheat's own tests with {title} installed | {_numbers(own)} |")
    return "\n".join(lines)


def _numbers(counted: Counter[str]) -> str:
    return " | ".join(str(counted[outcome]) for outcome in ("passed", "failed", "skipped"))


def main() -> int:
    parser = argparse.ArgumentParser(prog="just compat", description=__doc__)
    parser.add_argument("--docs", action="store_true", help="write the table into the docs")
    parser.add_argument("--peer", action="append", choices=[peer.name for peer in PEERS], help="only this one")
    parser.add_argument("arguments", nargs="*", help="of pytest, after --")
    given = parser.parse_args()
    if given.docs and given.peer:
        parser.error("the table of the docs needs all peers; leave out --peer")
    codes, found = [], {}
    for peer in PEERS:
        if not given.peer or peer.name in given.peer:
            code, found[peer.name] = run(peer, given.arguments)
            codes.append(code)
    print(table(found))
    if given.docs:
        page = PAGE.read_text(encoding="utf-8")
        pattern = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
        PAGE.write_text(pattern.sub(lambda _: f"{BEGIN}\n\n{table(found)}\n\n{END}", page), encoding="utf-8")
    return max(codes, default=0)


if __name__ == "__main__":
    sys.exit(main())
