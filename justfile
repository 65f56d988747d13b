# Every habit as a recipe. `./odea` does the same with nothing but python3.

set positional-arguments

version := `sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml`

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

# Clients that nobody here wrote, from their registries, against a whole stack: all, or those that are named
[group('check')]
clients *args:
    PYTHONPATH=tests uv run python -m clients "$@"

# Write what is made from the code anew: openapi.json, asyncapi.json, configuration.md, errors.md, operations/metrics.md
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

# Build one image: gateway, keys, quota, synth, or local, the operator's toolbox; `just image synth piper` with the voice in the box
[group('images')]
image service extra="":
    docker build -f deploy/Dockerfile --build-arg SERVICE={{service}} --build-arg EXTRA={{extra}} \
        --build-arg VERSION={{version}} --build-arg REVISION="$(git rev-parse HEAD)" \
        --build-arg CREATED="$(git log -1 --format=%cI)" \
        -t odea-{{service}}:{{version}}{{ if extra == "" { "" } else { "-" + extra } }} .

# Build all images
[group('images')]
images: (image "gateway") (image "keys") (image "quota") (image "synth") (image "synth" "piper") (image "local")
    docker images --filter reference='odea-*:{{version}}*' --format 'table {{{{.Repository}}:{{{{.Tag}}\t{{{{.Size}}'

# Look into the built images: what they hold, that they run hardened; needs an engine
[group('images')]
image-test *args:
    uv run pytest tests/deploy/test_images.py "$@"

# Write the bill of materials of one image (CycloneDX 1.5): just sbom synth piper
[group('images')]
sbom service extra="":
    uv export --quiet --preview-features sbom-export --frozen --no-dev --format cyclonedx1.5 --package odea-{{service}} \
        {{ if extra == "" { "" } else { "--extra " + extra } }} \
        --output-file odea-{{service}}{{ if extra == "" { "" } else { "-" + extra } }}.cdx.json

# Compare what tests render with what Kustomize renders; needs kubectl
[group('cluster')]
manifests-test *args:
    uv run pytest tests/deploy/test_manifests.py "$@"

# Run the dev overlay's containers, confined as the manifests say, and speak; needs Docker and `just images`
[group('cluster')]
containers-test *args:
    uv run pytest --timeout 600 tests/deploy/test_containers.py tests/deploy/test_nats_cluster.py "$@"

# Replace every service under load: nothing fails, no stream is cut, the money adds up; needs Docker and `just images`
[group('cluster')]
rollout-test *args:
    uv run pytest --timeout 900 -s tests/deploy/test_rollout.py "$@"

# Let the version before serve on today's schema and beside today's services, under load; needs the repository's history
[group('cluster')]
upgrade-test *args:
    uv run pytest --timeout 900 -s tests/deploy/test_upgrade.py "$@"

# Keep what a service asks of its schema, before a migration is added: just keep-queries quota 0003
[group('cluster')]
keep-queries service revision commit="HEAD":
    rm -f tests/contract/earlier/{{service}}/*.sql
    git show {{commit}}:services/{{service}}/src/odea_{{service}}/queries.sql >tests/contract/earlier/{{service}}/{{revision}}.sql
    test {{service}} = synth || git ls-tree --name-only {{commit}} libs/runtime/src/odea_runtime/ | grep 'sql$' | xargs -I@ git show {{commit}}:@ >>tests/contract/earlier/{{service}}/{{revision}}.sql

# Write the dev overlay's logins of the bus anew, after its rights have changed; --renew makes new seeds, too
[group('cluster')]
dev-users *args:
    PYTHONPATH=tests uv run python -m support.devbus "$@"

# Fetch and build what cluster-test needs: a real API server, into .odea/cluster; needs go, takes a while, once
[group('cluster')]
cluster-tools:
    tests/deploy/cluster-tools

# Apply every overlay to a real API server; needs kubectl and cluster-tools
[group('cluster')]
cluster-test *args:
    uv run pytest --timeout 300 tests/deploy/test_cluster.py "$@"

# Tens of thousands of made-up requests to a whole stack; none may end in a 5xx or contradict docs/openapi.json
[group('measure')]
fuzz *args:
    PYTHONPATH=tests uv run python tests/fuzz/run.py "$@"

# Let promtool try every alert; needs Prometheus (Debian: apt install prometheus)
[group('measure')]
rules-test:
    cd deploy/observability && promtool check config prometheus.yml
    cd deploy/observability && promtool test rules rules_test.yml rules_slow_test.yml

# Let Prometheus scrape the running overlay, and kill quota; needs Prometheus, Docker and `just images`
[group('cluster')]
prometheus-test *args:
    uv run pytest tests/deploy/test_prometheus.py "$@"

# How fast a whole stack is, beside a bare chain of the same hops; fails if the money does not add up
[group('measure')]
bench *args:
    PYTHONPATH=tests uv run python -m bench speed "$@"

# The same with fewer loads, in under three minutes
[group('measure')]
bench-quick *args:
    PYTHONPATH=tests uv run python -m bench speed --quick "$@"

# Beside LiteLLM's proxy from PyPI, in an environment of its own, at the same upstream
[group('measure')]
bench-peers *args:
    PYTHONPATH=tests uv run python -m bench peers "$@"

# Kill, stop and restart everything under load, by a schedule that a seed decides: just chaos --seed 7
[group('measure')]
chaos *args:
    PYTHONPATH=tests uv run python -m bench chaos "$@"

# Ten minutes of load with errors in it; nothing may be more at the end than after the first minute
[group('measure')]
soak *args:
    PYTHONPATH=tests uv run python -m bench soak "$@"

# How fast the ledger is, beside its floors
[group('measure')]
bench-quota *args:
    PYTHONPATH=tests uv run python tests/bench/quota.py "$@"

# Four replicas that are killed at random, 64 callers, 100,000 operations: no account is ever over
[group('measure')]
race operations="100000":
    ODEA_RACE_OPERATIONS={{operations}} uv run pytest tests/integration/quota/test_crash_race.py

# Whether the time of a refused verification tells why it was refused
[group('measure')]
bench-verify *args:
    PYTHONPATH=tests uv run python tests/bench/verify.py "$@"

# What Odea adds to the first byte of a provider on the same machine
[group('measure')]
bench-first-byte *args:
    PYTHONPATH=tests uv run python tests/bench/streams.py first-byte "$@"

# Five hundred streams of a minute at once, each exact by its digest
[group('measure')]
bench-crowd *args:
    PYTHONPATH=tests uv run python tests/bench/streams.py crowd "$@"
