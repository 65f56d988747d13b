"""`odea test` runs what it is asked to, all of it, and fails if anything failed."""

import sys
from pathlib import Path

import pytest

from odea_local import checks
from odea_local.checks import CHECKS, Check


def names(root: Path, *words: str) -> tuple[list[str], tuple[str, ...]]:
    chosen, extra = checks.choose(root, words)
    return [check.name for check in chosen], extra


def test_without_a_choice_everything_runs_and_pytest_comes_last(tmp_path: Path) -> None:
    everything = [check.name for check in CHECKS]
    assert names(tmp_path) == (everything, ())
    assert everything[-3:] == ["unit", "integration", "e2e"]


@pytest.mark.parametrize(
    ("words", "chosen", "extra"),
    [
        (("unit",), ["unit"], ()),
        (("types", "format"), ["format", "types"], ()),
        (("unit", "-k", "lint"), ["unit"], ("-k", "lint")),
        (("-x",), ["unit", "integration", "e2e"], ("-x",)),
        (("tests/a.py::test_it", "-x"), ["tests"], ("tests/a.py::test_it", "-x")),
    ],
)
def test_names_choose_and_the_rest_is_for_pytest(
    tmp_path: Path, words: tuple[str, ...], chosen: list[str], extra: tuple[str, ...]
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "a.py").touch()
    assert names(tmp_path, *words) == (chosen, extra)


def test_all_checks_run_and_one_failure_fails_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = Check(name="bad", title="The bad one", command=("-c", "print('no good'); exit(3)"))
    good = Check(name="good", title="The good one", command=("-c", "print('all good')"))
    assert checks.run(tmp_path, (bad, good)) == 1
    shown = capsys.readouterr().out
    assert shown.count("no good") == 2, "once as it comes, once in the summary"
    assert shown.count("all good") == 2
    assert "✗  The bad one" in shown
    assert checks.run(tmp_path, (good,)) == 0


def test_pytest_gets_the_folders_that_exist_and_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tests" / "e2e").mkdir(parents=True)
    ran: list[list[str]] = []

    def stream(_console: object, _root: Path, command: list[str]) -> tuple[int, str]:
        ran.append(command)
        return checks.PYTEST_NO_TESTS, ""

    monkeypatch.setattr(checks, "_stream", stream)
    chosen, _ = checks.choose(tmp_path, ("e2e",))
    assert checks.run(tmp_path, chosen, ("-k", "nothing")) == 0
    assert checks.run(tmp_path, chosen) == 1, "no tests at all is a failure unless the choice was the caller's"
    assert ran == [[sys.executable, *chosen[0].command, "tests/e2e", *extra] for extra in (["-k", "nothing"], [])]
