"""The same servers in containers, for `ODEA_TEST_INFRA=containers`."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import LogMessageWaitStrategy, PortWaitStrategy

from odea_local.ports import find_free

_PASSWORD = "tests-only"
# The reaper is one more image to fetch, and ours end with their fixture.
testcontainers_config.ryuk_disabled = True


@dataclass(frozen=True)
class _ContainerServer:
    """A container whose published port stays the same over a restart."""

    container: DockerContainer
    address: str

    @property
    def dsn(self) -> str:
        return self.address

    @property
    def url(self) -> str:
        return self.address

    def kill(self) -> None:
        self.container.get_wrapped_container().kill()

    def stop(self) -> None:
        self.container.get_wrapped_container().stop()

    def restart(self) -> None:
        self.container.get_wrapped_container().restart()


@contextmanager
def container_postgres(image: str) -> Generator[_ContainerServer]:
    """PostgreSQL from `image`."""
    port = find_free()
    ready = LogMessageWaitStrategy("database system is ready to accept connections").with_startup_timeout(60)
    container = (
        DockerContainer(image)
        .with_env("POSTGRES_PASSWORD", _PASSWORD)
        .with_command("-c fsync=off -c max_connections=200")
        .with_bind_ports(5432, port)
        .waiting_for(ready)
    )
    with container:
        yield _ContainerServer(container, f"postgresql://postgres:{_PASSWORD}@127.0.0.1:{port}/postgres")


@contextmanager
def container_nats(image: str) -> Generator[_ContainerServer]:
    """NATS with JetStream from `image`."""
    port = find_free()
    container = (
        DockerContainer(image)
        .with_command(f"-js -m 8222 --user odea --pass {_PASSWORD}")
        .with_bind_ports(4222, port)
        .waiting_for(PortWaitStrategy(4222).with_startup_timeout(30))
    )
    with container:
        yield _ContainerServer(container, f"nats://odea:{_PASSWORD}@127.0.0.1:{port}")
