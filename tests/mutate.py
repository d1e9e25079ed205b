"""The recipe `just mutate`: change preheat.warming in small ways, and see which changes no test notices.

mutmut does it, by `[tool.mutmut]`, on a copy in build/. tests/mutants.toml has the reason for each one that survives.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from mutmut.configuration import config
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code
from mutmut.utils.file_utils import walk_mutatable_files
from mutmut.utils.format_utils import orig_function_and_class_names_from_key

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "mutation"


@dataclass(frozen=True)
class Mutant:
    """One small change of the source, and what the tests made of it."""

    path: Path
    line: int
    function: str
    was: str
    now: str
    status: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What tests/mutants.toml calls it: the same as long as its lines stay the same, wherever they are."""
        return self.path.name, self.function, self.was, self.now


def read_mutant(name: str, path: Path, status: str) -> Mutant:
    """A mutant in full, from the names that mutmut gives it."""
    function, owner = orig_function_and_class_names_from_key(name)
    function = f"{owner}.{function}" if owner else function
    starts = {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for part in node.body if isinstance(node, ast.ClassDef) else [node]:
            if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)):  # of several, overloads come first
                starts[f"{node.name}.{part.name}" if isinstance(node, ast.ClassDef) else part.name] = part.lineno
    _, first, hunk = re.split(r"^@@ -(\d+).*\n", get_diff_for_mutant(name, path=path), maxsplit=1, flags=re.MULTILINE)
    lines = hunk.splitlines()
    unchanged = [line[:1] in {"-", "+"} for line in lines].index(True)
    was, now = (" ".join(line[1:].strip() for line in lines if line[:1] == sign) for sign in "-+")
    return Mutant(path, starts[function] + int(first) - 1 + unchanged, function, was, now, status)


def lines_that_log(path: Path) -> set[int]:
    """The lines of the calls that log: their words are not a promise, so no test asserts them."""
    calls = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
    logged = [call for call in calls if ast.unparse(call.func).startswith("logger.")]
    return {line for call in logged for line in range(call.lineno, (call.end_lineno or call.lineno) + 1)}


def try_with_all_tests(name: str) -> str:
    """What becomes of a mutant that mutmut knows no tests for: it does not see what runs in a forked child."""
    options = ["-x", "-q", *config().pytest_add_cli_args, *config().pytest_add_cli_args_test_selection]
    command = [sys.executable, "-m", "pytest", *options]
    environment = {**os.environ, "MUTANT_UNDER_TEST": name, "PYTHONPATH": "src"}
    try:
        run = subprocess.run(command, cwd="mutants", env=environment, capture_output=True, timeout=60, check=False)
    except subprocess.TimeoutExpired:
        return "timeout"
    return "killed" if run.returncode == 1 else "survived" if run.returncode == 0 else "not tried"


def run_mutmut() -> list[Mutant]:
    """Make every mutant and try each; afterwards the working directory is the copy where that was done."""
    shutil.rmtree(WORK, ignore_errors=True)
    for part in ("src", "tests"):
        shutil.copytree(ROOT / part, WORK / part, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", WORK)
    os.chdir(WORK)
    os.nice(10)
    command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", str(os.cpu_count() or 1)]
    with Path("mutmut.log").open("w", encoding="utf-8") as log:
        if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False).returncode:
            sys.exit(f"mutmut failed; its last words:\n{Path('mutmut.log').read_text(encoding='utf-8')[-3000:]}")
    mutants = []
    for path in walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            status = status_by_exit_code[code]
            mutants.append(read_mutant(name, path, try_with_all_tests(name) if status == "no tests" else status))
    return mutants


def main() -> int:
    """Run the campaign and print what came of it; 0 if there is a reason for each survivor, and no reason without."""
    told = tomllib.loads(Path(__file__).with_name("mutants.toml").read_text(encoding="utf-8"))["mutant"]
    reasons = {(one["file"], one["function"], one["was"], now): one["why"] for one in told for now in one["now"]}
    mutants = run_mutmut()
    alive = [m for m in mutants if m.status not in {"killed", "timeout"} and m.line not in lines_that_log(m.path)]
    for mutant in alive:
        why = reasons.get(mutant.key, "NOT EXPLAINED: write a test, or give the reason in tests/mutants.toml")
        print(f"\n{mutant.path}:{mutant.line}: {mutant.status}\n  - {mutant.was}\n  + {mutant.now}\n  {why}")
    stale = reasons.keys() - {mutant.key for mutant in alive}
    for key in sorted(stale):
        print("\ntests/mutants.toml explains what does not survive:", *key, sep="\n  ")
    print(f"\n{'':34}{'mutants':>10}{'killed':>10}{'timed out':>10}{'survived':>10}{'explained':>10}")
    for path in [*sorted({mutant.path for mutant in mutants}), None]:
        here = [mutant for mutant in mutants if path in {None, mutant.path}]
        ended = [sum(mutant.status == word for mutant in here) for word in ("killed", "timeout")]
        explained = [mutant for mutant in alive if mutant in here and mutant.key in reasons]
        counts = [len(here), *ended, len(here) - sum(ended), len(explained)]
        print(f"{path or 'total'!s:34}" + "".join(f"{count:10}" for count in counts))
    return 1 if stale or not mutants or any(mutant.key not in reasons for mutant in alive) else 0


if __name__ == "__main__":
    sys.exit(main())
