"""No request that can be made up from the document ends in a 5xx, and no answer contradicts the document (P7)."""

from collections.abc import Generator

import pytest

from fuzz.run import Target, fuzz, target, unknown_key

WITHIN_S = 540


@pytest.fixture(scope="module")
def where() -> Generator[Target]:
    with target() as stack:
        yield stack


@pytest.mark.timeout(WITHIN_S + 60)
def test_with_a_key_that_may_do_everything(where: Target) -> None:
    phases = "examples,coverage,fuzzing,stateful"
    ran = fuzz(where, where.key, examples=30, seed=20261125, phases=phases, within_s=WITHIN_S)
    assert ran.good, ran.text
    assert ran.cases >= 2000, ran.text
    assert "only 401/403" not in ran.text, ran.text
    assert where.errors() == []


@pytest.mark.timeout(WITHIN_S + 60)
def test_with_a_key_that_nobody_knows(where: Target) -> None:
    ran = fuzz(where, unknown_key(), examples=10, seed=20261125, phases="examples,coverage,fuzzing", within_s=WITHIN_S)
    assert ran.good, ran.text
    assert ran.cases >= 500, ran.text
    assert where.errors() == []
