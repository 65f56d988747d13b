# Every habit as a recipe. `./odea` does the same with nothing but python3.

set positional-arguments

_default:
    @just --list

# Fetch everything that is needed, tools for development included
[group('start')]
setup:
    uv sync

# Start the whole platform here
[group('start')]
up *args:
    ./odea up "$@"

# Stop it
[group('start')]
down *args:
    ./odea down "$@"

# Run everything that CI runs
[group('check')]
test *args:
    ./odea test "$@"

# Put the code into the project's format and mend what can be mended
[group('check')]
fmt:
    uv run ruff check --fix
    uv run ruff format

# Format and lint, without changing anything
[group('check')]
lint:
    uv run ruff format --check
    uv run ruff check

# Types, strictly, tests included
[group('check')]
types:
    uv run basedpyright

# Who may import whom
[group('check')]
imports:
    uv run lint-imports

# Tests that need no server
[group('check')]
unit *args:
    uv run pytest tests/unit "$@"

# Tests with real PostgreSQL and NATS
[group('check')]
integration *args:
    uv run pytest tests/contract tests/integration "$@"

# The whole stack through HTTP
[group('check')]
e2e *args:
    uv run pytest tests/e2e "$@"

# Write docs/openapi.json and docs/asyncapi.json anew
[group('docs')]
docs:
    uv run python -m odea_local.documents

# Bring one service's schema up to date; settings come from the environment
[group('run')]
migrate service:
    uv run python -m odea_{{service}} migrate

# Run one service; settings come from the environment
[group('run')]
run service:
    uv run python -m odea_{{service}} serve

# Build one service's image; EXTRAS="--extra piper" puts the voice in the box into synth's
[group('run')]
image service extras="":
    docker build -f deploy/Dockerfile --build-arg SERVICE={{service}} --build-arg EXTRAS="{{extras}}" -t odea-{{service}} .

# How fast the ledger is, beside its floors
[group('measure')]
bench-quota *args:
    PYTHONPATH=tests uv run python tests/bench/quota.py "$@"
