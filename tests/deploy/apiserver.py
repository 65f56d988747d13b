"""A real API server on loopback, with its etcd and nothing behind it: what is applied is checked and kept, not run."""

import os
import secrets
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from ssl import CERT_NONE, SSLContext, create_default_context
from typing import Final

from odea_local.ports import find_free
from support.lock import ROOT

TOOLS: Final = ROOT / ".odea/cluster"
START_WITHIN_S: Final = 90.0


@dataclass(frozen=True)
class Cluster:
    """An API server and how to speak to it as its administrator."""

    kubeconfig: Path

    def kubectl(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        """Run kubectl; the caller looks at the status."""
        return subprocess.run(
            ["kubectl", f"--kubeconfig={self.kubeconfig}", *arguments],
            check=False, capture_output=True, text=True, timeout=120, input=stdin,
        )  # fmt: skip

    def must(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl, which must succeed; what it prints."""
        done = self.kubectl(*arguments, stdin=stdin)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done.stdout


def _program(name: str) -> str:
    folder = Path(os.environ.get("KUBEBUILDER_ASSETS", TOOLS / "bin"))
    found = folder / name
    assert found.is_file(), f"{found} is missing; `just cluster-tools` builds it"
    return str(found)


@contextmanager
def _running(folder: Path, name: str, *arguments: str) -> Generator[subprocess.Popen[bytes]]:
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen([_program(name), *arguments], stdout=log, stderr=log, cwd=folder)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


@contextmanager
def cluster(folder: Path) -> Generator[Cluster]:
    """An API server with RBAC and the usual admission, pod security and service accounts included."""
    assert shutil.which("kubectl"), "kubectl is missing"
    client, peer, port, token = find_free(), find_free(), find_free(), secrets.token_hex(16)
    key = folder / "accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    etcd = [
        f"--data-dir={folder / 'etcd'}",
        f"--listen-client-urls=http://127.0.0.1:{client}",
        f"--advertise-client-urls=http://127.0.0.1:{client}",
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
        "--unsafe-no-fsync",
    ]
    server = [
        f"--etcd-servers=http://127.0.0.1:{client}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        f"--cert-dir={folder / 'certificates'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        "--authorization-mode=RBAC",
        "--service-cluster-ip-range=10.0.0.0/16",
        "--service-account-issuer=https://cluster.test",
        f"--service-account-key-file={key}",
        f"--service-account-signing-key-file={key}",
        "--enable-admission-plugins=NodeRestriction,PodSecurity",
    ]
    with _running(folder, "etcd", *etcd), _running(folder, "kube-apiserver", *server) as apiserver:
        _wait(apiserver, f"https://127.0.0.1:{port}/readyz", token, folder)
        yield Cluster(_kubeconfig(folder, port, token))


def _wait(process: subprocess.Popen[bytes], url: str, token: str, folder: Path) -> None:
    trust: SSLContext = create_default_context()
    trust.check_hostname, trust.verify_mode = False, CERT_NONE
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    waited = 0.0
    while waited < START_WITHIN_S:
        try:
            with urllib.request.urlopen(request, timeout=5, context=trust):
                return
        except (urllib.error.URLError, OSError):
            try:
                process.wait(0.5)
            except subprocess.TimeoutExpired:
                waited += 0.5
                continue
            break
    raise AssertionError(f"the API server did not start:\n{(folder / 'kube-apiserver.log').read_text()[-3000:]}")


def _kubeconfig(folder: Path, port: int, token: str) -> Path:
    path = folder / "kubeconfig"
    run = ["kubectl", f"--kubeconfig={path}", "config"]
    server = [f"--server=https://127.0.0.1:{port}", "--insecure-skip-tls-verify=true"]
    for arguments in (
        ["set-cluster", "test", *server],
        ["set-credentials", "admin", f"--token={token}"],
        ["set-context", "test", "--cluster=test", "--user=admin"],
        ["use-context", "test"],
    ):
        subprocess.run([*run, *arguments], check=True, capture_output=True)
    return path
