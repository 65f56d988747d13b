"""No statement is made of text that a caller can choose: each is written down, and what varies is a parameter.

Read from the code itself: every call that hands SQL to the driver gets a literal or a named query, and nothing in
`queries.sql` or the migrations' functions runs text as a statement.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).parents[2]
_SENDERS: Final = frozenset(
    {"execute", "executemany", "fetch", "fetchrow", "fetchval", "fetchmany", "prepare", "cursor", "copy_from_query"}
)
# The parts of the driver that are named in it and take no statement, and the texts of the migrations' own runner,
# which holds the names of schemas that the code itself writes.
_MIGRATIONS: Final = "libs/runtime/src/odea_runtime/migrations.py"
_SOURCES: Final = sorted([*_ROOT.glob("services/*/src/**/*.py"), *_ROOT.glob("libs/runtime/src/**/*.py")])
_SQL: Final = sorted([*_ROOT.glob("services/*/src/**/*.sql"), *_ROOT.glob("libs/runtime/src/**/*.sql")])
_VERBS: Final = re.compile(
    r"\b(SELECT\b.+\bFROM|INSERT INTO|UPDATE\b.+\bSET|DELETE FROM|ALTER TABLE|DROP TABLE|TRUNCATE)\b", re.DOTALL
)
_DYNAMIC: Final = re.compile(r"\bEXECUTE\s+(?!FUNCTION\b|PROCEDURE\b)(?P<what>[^;]*)", re.IGNORECASE)


def _name(path: Path) -> str:
    return path.relative_to(_ROOT).as_posix()


def _built(node: ast.AST) -> bool:
    """Whether a text is put together: f-string with a value, `+`, `%`, `.format`, `.join`, `.replace`."""
    match node:
        case ast.JoinedStr(values=values):
            return any(isinstance(value, ast.FormattedValue) for value in values)
        case ast.BinOp(left=left, op=ast.Add() | ast.Mod(), right=right):
            return any(_text(side) for side in (left, right))
        case ast.Call(func=ast.Attribute(attr="format" | "join" | "replace", value=value)):
            return _text(value)
        case _:
            return False


def _text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _faults(source: str) -> Iterator[str]:
    """What is wrong in a module, by line."""
    for node in ast.walk(ast.parse(source)):
        if _built(node) and _VERBS.search(ast.unparse(node)):
            yield f"{node.lineno}: a statement is put together"  # pyright: ignore[reportAttributeAccessIssue]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _SENDERS:
            statement = node.args[0] if node.args else None
            if statement is not None and not (isinstance(statement, ast.Constant) and isinstance(statement.value, str)):
                yield f"{node.lineno}: {node.func.attr}({ast.unparse(statement)})"


@pytest.mark.parametrize("path", [path for path in _SOURCES if _name(path) != _MIGRATIONS], ids=_name)
def test_no_module_builds_a_statement(path: Path) -> None:
    assert list(_faults(path.read_text("utf-8"))) == []


@pytest.mark.parametrize("path", _SQL, ids=_name)
def test_no_query_runs_text_as_a_statement(path: Path) -> None:
    """A function may run `format('…')` with `%I` and `%L`, which quote what they are given; nothing is `%s`."""
    text = re.sub(r"--[^\n]*", "", path.read_text("utf-8"))
    for found in _DYNAMIC.finditer(text):
        what = found["what"].strip()
        assert re.match(r"format\(\s*(\$\w*\$|')", what), what
        assert "%s" not in what, what
    if path.name == "queries.sql":
        assert not _DYNAMIC.search(text), "a query that is asked with parameters has no statement in it"


def test_all_is_read() -> None:
    assert {path.name for path in _SQL} >= {"queries.sql", "outbox.sql", "0001_init.sql"}
    assert len(_SOURCES) > 80


BAD: Final = {
    "f-string": "async def f(c, name):\n    await c.fetch(f\"SELECT 1 FROM t WHERE name = '{name}'\")\n",
    "plus": 'async def f(c, name):\n    await c.execute("DELETE FROM t WHERE name = " + name)\n',
    "percent": "def f(name):\n    return \"UPDATE t SET name = '%s'\" % name\n",
    "format": 'def f(name):\n    return "INSERT INTO t VALUES ({})".format(name)\n',
    "join": 'def f(names):\n    return "SELECT 1 FROM t WHERE a = ".join(names)\n',
    "a variable": "async def f(c, statement):\n    await c.fetchval(statement)\n",
}


@pytest.mark.parametrize("source", BAD.values(), ids=BAD)
def test_what_is_built_is_found(source: str) -> None:
    """Else the tests above could pass by seeing nothing."""
    assert list(_faults(source))


def test_what_is_written_down_is_not() -> None:
    assert not list(_faults('async def f(c, name):\n    await c.fetch("SELECT 1 FROM t WHERE name = $1", name)\n'))
