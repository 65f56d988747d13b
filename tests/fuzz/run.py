"""Send tens of thousands of made-up requests to a whole stack; none may end in a 5xx or contradict the document.

`python tests/fuzz/run.py [CASES]`, or `just fuzz`. With a key that may do everything, and with one that nobody knows.
"""

import asyncio
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from fuzz.hooks import ACCOUNT, SPARED
from odea_contracts import keys, plans
from odea_contracts.keytext import encode_secret, format_key
from odea_local.embedded import EmbeddedStack, embedded_stack
from odea_runtime.ids import random_base62
from support.operator import operating

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
)
"""All that schemathesis has, but that valid data must be accepted: a cursor is valid only if a page gave it, and which
one that is no schema can say."""
CASES = 50_000
EXAMPLES = 300
"""By operation and round."""


@dataclass(frozen=True, kw_only=True)
class Round:
    """What came of one run."""

    cases: int
    failures: int
    exit_status: int
    text: str

    @property
    def good(self) -> bool:
        """Whether nothing was found, and all was looked at."""
        return self.exit_status == 0 and self.failures == 0


class _Counts(msgspec.Struct):
    generated: int
    with_failures: int


class _Report(msgspec.Struct):
    test_cases: _Counts


@dataclass(frozen=True, kw_only=True)
class Target:
    """A stack to try, a key that may do everything there, and an account that anything may be done to."""

    stack: EmbeddedStack
    key: str
    spared: tuple[str, ...]
    account: str

    def errors(self) -> list[str]:
        """What the services logged as their own faults."""
        logs = [path.read_text(errors="replace") for path in Path(self.stack.folder.logs).iterdir() if path.is_file()]
        return [line for text in logs for line in text.splitlines() if '"level":"error"' in line.replace(" ", "")]


@contextmanager
def target() -> Generator[Target]:
    """A stack of its own: what is done to it is nobody's business."""
    # Who guesses keys all the time is not the question here.
    environ = {"ODEA_LOG_FORMAT": "json", "ODEA_AUTH_FAILURES_PER_MINUTE": "100000"}
    with (
        tempfile.TemporaryDirectory(prefix="odea-fuzz-", ignore_cleanup_errors=True) as folder,
        embedded_stack(Path(folder), environ) as stack,
    ):
        yield asyncio.run(_prepare(stack))


async def _prepare(stack: EmbeddedStack) -> Target:
    async with operating(stack) as operator:
        tenant, _ = await operator.new_tenant(plans.PlanSet(name="fuzzed", units=10**9))
        other, _ = await operator.new_tenant(plans.PlanSet(name="fuzzed", units=10**9))
        issue = keys.Issue(tenant_id=tenant.tenant_id, name="fuzz", scopes=tuple(keys.Scope))
        issued = await operator.bus.call(keys.ISSUE, issue)
        assert isinstance(issued, keys.Issued), issued
        spared = (tenant.tenant_id, issued.key.key_id)
        return Target(stack=stack, key=issued.secret, spared=spared, account=other.tenant_id)


def unknown_key() -> str:
    """A well-formed key that nobody knows."""
    return format_key(random_base62(12), encode_secret(os.urandom(64)))


def fuzz(where: Target, key: str, *, examples: int, seed: int, phases: str, within_s: float) -> Round:
    """One run of schemathesis over the whole document.

    Args:
        where: the stack.
        key: what is sent as the API key.
        examples: how many cases of each operation, at most.
        seed: the same seed makes up the same cases.
        phases: of schemathesis, separated by commas.
        within_s: how long it may take.
    """
    with tempfile.TemporaryDirectory(prefix="odea-fuzz-") as folder:
        report = Path(folder, "report.json")
        command = [
            *(str(Path(sys.executable).with_name("st")), "run", f"{where.stack.url}/schema/openapi.json"),
            *("--phases", phases, "--max-examples", str(examples), "--seed", str(seed)),
            *("--checks", ",".join(CHECKS), "--header", f"Authorization: Bearer {key}"),
            # The other header for keys would make two of them, which is refused.
            *("--generation-with-security-parameters", "false", "--generation-database", "none"),
            *("--suppress-health-check", "all", "--continue-on-failure", "--no-shrink", "--no-color"),
            *("--request-timeout", "60", "--report", "json", "--report-json-path", str(report)),
        ]
        tests = Path(__file__).parents[1]
        environ = {
            **os.environ,
            "PYTHONPATH": str(tests),
            "SCHEMATHESIS_HOOKS": "fuzz.hooks",
            SPARED: ",".join(where.spared),
            ACCOUNT: where.account,
        }
        ran = subprocess.run(
            command, cwd=folder, env=environ, capture_output=True, text=True, timeout=within_s, check=False
        )
        counts = msgspec.json.decode(report.read_bytes(), type=_Report).test_cases if report.exists() else _Counts(0, 0)
    return Round(
        cases=counts.generated,
        failures=counts.with_failures,
        exit_status=ran.returncode,
        text=f"{ran.stdout}\n{ran.stderr}".replace(key, "<key>"),
    )


def main(cases: int) -> int:
    """Go on until there have been so many cases, or something is found."""
    with target() as where:
        done = 0
        while done < cases:
            seed = random.SystemRandom().randrange(2**32)
            for name, key in (("with a key", where.key), ("with an unknown key", unknown_key())):
                examples = EXAMPLES if key == where.key else EXAMPLES // 4
                phases = "examples,coverage,fuzzing,stateful"
                ran = fuzz(where, key, examples=examples, seed=seed, phases=phases, within_s=3600)
                done += ran.cases
                _say(f"{name}, seed {seed}: {ran.cases} cases, {ran.failures} failed; {done} in all")
                if not ran.good:
                    _say(ran.text)
                    return 1
        errors = where.errors()
        _say(*errors)
        return 1 if errors else 0


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else CASES))
