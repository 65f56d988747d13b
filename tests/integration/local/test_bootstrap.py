"""`./odea` itself: what it fetches, what it refuses to run, and when it has nothing to do."""

import ast
import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import zipfile
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import SourceFileLoader
from pathlib import Path
from threading import Thread
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[3] / "odea"
TAG = "manylinux_2_17_x86_64.manylinux2014_x86_64"
LOGIN = "Basic dXNlcjpwQHNz"


def no_pause(_seconds: float) -> None:
    """Stands for `time.sleep` between attempts."""


@pytest.fixture
def odea(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script as a module whose folder is a temporary one."""
    loader = SourceFileLoader("odea_bootstrap", str(SCRIPT))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    for name, path in {
        "REPO": tmp_path,
        "TOOLS": tmp_path / "tools",
        "VENV": tmp_path / ".venv",
        "STAMP": tmp_path / ".venv" / "stamp",
    }.items():
        monkeypatch.setattr(module, name, path)
    monkeypatch.setattr(module.time, "sleep", no_pause)
    for name in ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    return module


class Index(ThreadingHTTPServer):
    """A package index with one wheel, in either form, that can break off or ask for a login."""

    def __init__(self, odea: ModuleType) -> None:
        super().__init__(("127.0.0.1", 0), Page)
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr(f"uv-{odea.UV_VERSION}.data/scripts/uv", b"#!/bin/sh\necho it runs\n")
        self.wheel = archive.getvalue()
        self.name = f"uv-{odea.UV_VERSION}-py3-none-{TAG}.whl"
        self.kind = "application/vnd.pypi.simple.v1+json"
        self.breaks = 0
        self.login = ""
        self.asked = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/simple"


class Page(BaseHTTPRequestHandler):
    server: Index  # pyright: ignore[reportIncompatibleVariableOverride] - this handler serves that server alone

    def do_GET(self) -> None:
        index = self.server
        index.asked += 1
        if index.login and self.headers.get("Authorization") != index.login:
            return self.answer(401, "text/plain", b"who are you?")
        if not self.path.endswith("/simple/uv/"):
            return self.answer(200, "application/octet-stream", index.wheel)
        if index.kind == "text/html":
            return self.answer(
                200, index.kind, f'<a href="../../files/{index.name}#sha256=0">{index.name}</a>'.encode()
            )
        return self.answer(200, index.kind, f'{{"files": [{{"url": "../../files/{index.name}"}}]}}'.encode())

    def answer(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.breaks:
            self.server.breaks -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Says nothing."""


@pytest.fixture
def index(odea: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Generator[Index]:
    with Index(odea) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        digest = hashlib.sha256(index.wheel).hexdigest()
        monkeypatch.setattr(odea, "wheel_for_this_machine", lambda: (index.name, digest))
        thread = Thread(target=index.serve_forever, args=(0.02,))
        thread.start()
        yield index
        index.shutdown()
        thread.join()


def test_an_old_python_can_read_the_file_and_gets_one_line() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))
    first = next(node for node in ast.parse(SCRIPT.read_text()).body if isinstance(node, ast.If))
    assert ast.unparse(first.test) == "sys.version_info < (3, 11)"


def test_it_needs_nothing_but_the_standard_library() -> None:
    imported = [
        node for node in ast.walk(ast.parse(SCRIPT.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    names = {alias.name for node in imported if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in imported if isinstance(node, ast.ImportFrom)}
    assert not {name.partition(".")[0] for name in names} - sys.stdlib_module_names


@pytest.mark.parametrize(
    ("system", "machine", "libc", "tag"),
    [
        ("linux", "x86_64", "gnu", "manylinux_2_17_x86_64"),
        ("linux", "x86_64", "musl", "musllinux_1_1_x86_64"),
        ("linux", "aarch64", "gnu", "manylinux_2_17_aarch64"),
        ("linux", "aarch64", "musl", "manylinux_2_17_aarch64"),
        ("darwin", "x86_64", "", "macosx_10_12_x86_64"),
        ("darwin", "arm64", "", "macosx_11_0_arm64"),
    ],
)
def test_each_platform_has_a_pinned_wheel(
    odea: ModuleType, monkeypatch: pytest.MonkeyPatch, system: str, machine: str, libc: str, tag: str
) -> None:
    monkeypatch.setattr(odea.sys, "platform", system)
    monkeypatch.setattr(odea.platform, "machine", lambda: machine)

    def configured(_name: str) -> str:
        return f"{machine}-linux-{libc}"

    monkeypatch.setattr(odea.sysconfig, "get_config_var", configured)
    wheel, digest = odea.wheel_for_this_machine()
    assert wheel.startswith(f"uv-{odea.UV_VERSION}-py3-none-{tag}")
    assert len(bytes.fromhex(digest)) == 32


def test_an_unknown_platform_is_one_clear_line(odea: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odea.platform, "machine", lambda: "vax")
    with pytest.raises(odea.TroubleError, match="there is no pinned uv for linux-vax"):
        odea.wheel_for_this_machine()


@pytest.mark.parametrize("kind", ["application/vnd.pypi.simple.v1+json", "text/html"])
def test_the_wheel_is_found_verified_and_unpacked_once(odea: ModuleType, index: Index, kind: str) -> None:
    index.kind = kind
    uv = odea.ensure_uv()
    assert subprocess.run([uv], capture_output=True, check=True).stdout == b"it runs\n"
    assert odea.ensure_uv() == uv
    assert index.asked == 2
    assert [path.name for path in uv.parent.iterdir()] == ["uv"]


def test_a_broken_download_is_repeated(odea: ModuleType, index: Index) -> None:
    index.breaks = 2
    assert odea.ensure_uv().exists()


def test_an_altered_wheel_is_not_unpacked(odea: ModuleType, index: Index) -> None:
    index.wheel += b"!"
    with pytest.raises(odea.TroubleError, match="altered on its way"):
        odea.ensure_uv()
    assert not odea.TOOLS.exists()


def test_a_login_in_the_address_is_used_and_not_shown(
    odea: ModuleType, index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    index.login = LOGIN
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url.replace("://", "://user:p%40ss@"))
    assert odea.ensure_uv().exists()
    odea.ensure_uv().unlink()
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.url.replace("://", "://user:wrong@"))
    with pytest.raises(odea.TroubleError, match=r"could not fetch uv from 127\.0\.0\.1: Unauthorized") as trouble:
        odea.ensure_uv()
    assert "wrong" not in str(trouble.value) + "".join(capsys.readouterr())


def test_without_a_network_there_is_one_clear_line_after_a_few_attempts(
    odea: ModuleType, index: Index, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{index.server_port}")
    index.shutdown()
    index.server_close()
    make_environment(odea)
    with pytest.raises(SystemExit) as ended:
        odea.main(["up"])
    assert ended.value.code == 1
    *_, last = capsys.readouterr().err.splitlines()
    assert "could not fetch uv from 127.0.0.1:" in last
    assert "Offline?" in last


def make_environment(odea: ModuleType) -> None:
    (odea.REPO / "uv.lock").write_text("lock")
    (odea.REPO / "pyproject.toml").write_text("manifest")
    (odea.VENV / "bin").mkdir(parents=True)
    (odea.VENV / "bin" / "python").touch()
    (odea.VENV / "lib" / "python3.11" / "site-packages").mkdir(parents=True)


@pytest.fixture
def synced(odea: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, bool]]:
    """Which synchronisations happened, each as (with the dev group, quiet)."""
    make_environment(odea)
    calls: list[tuple[bool, bool]] = []

    def sync(_: Path, *, dev: bool, quiet: bool) -> None:
        calls.append((dev, quiet))
        if not odea.VENV.exists():
            make_environment(odea)

    monkeypatch.setattr(odea, "sync", sync)
    monkeypatch.setattr(odea, "ensure_uv", lambda: Path("uv"))
    return calls


def test_packages_are_installed_once(odea: ModuleType, synced: list[tuple[bool, bool]]) -> None:
    for verb in ("up", "up", "status"):
        odea.ensure_packages(verb)
    assert synced == [(False, False)]


def test_only_the_tests_get_the_dev_group_and_everything_else_is_content_with_it(
    odea: ModuleType, synced: list[tuple[bool, bool]]
) -> None:
    for verb in ("up", "test", "up", "test"):
        odea.ensure_packages(verb)
    assert synced == [(False, False), (True, False)]


@pytest.mark.parametrize(("verb", "follows"), [("up", True), ("test", True), ("down", False), ("logs", False)])
def test_a_changed_lock_file_is_followed_when_something_starts(
    odea: ModuleType, synced: list[tuple[bool, bool]], verb: str, follows: bool
) -> None:
    odea.ensure_packages("test")
    (odea.REPO / "uv.lock").write_text("changed")
    odea.ensure_packages(verb)
    assert len(synced) == 1 + follows


def test_what_somebody_else_installed_is_put_right_quietly(odea: ModuleType, synced: list[tuple[bool, bool]]) -> None:
    odea.ensure_packages("up")
    os.utime(odea.VENV / "lib" / "python3.11" / "site-packages", (1, 1))
    odea.ensure_packages("up")
    assert synced == [(False, False), (False, True)]


def test_an_environment_that_came_from_another_folder_is_made_anew(
    odea: ModuleType, synced: list[tuple[bool, bool]]
) -> None:
    odea.ensure_packages("up")
    odea.STAMP.write_text(odea.STAMP.read_text().replace(str(odea.REPO), "/elsewhere"))
    (odea.VENV / "stale").touch()
    odea.ensure_packages("status")
    assert synced == [(False, False), (False, False)]
    assert not (odea.VENV / "stale").exists()


@pytest.mark.parametrize("stamp", ["", "{}", "[]", '["0123abcd", "base"]', "null"])
def test_an_environment_of_unknown_origin_is_kept(
    odea: ModuleType, synced: list[tuple[bool, bool]], stamp: str
) -> None:
    odea.STAMP.write_text(stamp)
    (odea.VENV / "precious").touch()
    odea.ensure_packages("status")
    assert synced == [(False, False)]
    assert (odea.VENV / "precious").exists()


def test_a_folder_that_cannot_be_written_is_one_clear_line(
    odea: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_environment(odea)
    monkeypatch.setattr(odea, "TOOLS", odea.REPO / "uv.lock" / "tools")
    with pytest.raises(SystemExit) as ended:
        odea.main(["up"])
    assert ended.value.code == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "Not a directory" in line
    assert "must be writable" in line
