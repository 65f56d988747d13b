"""A stand-in for an OpenTelemetry collector: takes spans by OTLP over HTTP and shows them."""

import gzip
import threading
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue


@dataclass(frozen=True, kw_only=True)
class CollectedSpan:
    """A span as it came in, ids in hex."""

    service: str
    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, str | int | float | bool]
    links: tuple[str, ...]
    began_ns: int
    ended_ns: int


class Collector:
    """What has come in."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.bodies: list[bytes] = []
        self.paths: set[str] = set()
        self.authorizations: set[str] = set()

    @property
    def text(self) -> str:
        """All of it; words stand in it as they are."""
        return "\n".join(body.decode(errors="replace") for body in self.bodies)

    @property
    def spans(self) -> list[CollectedSpan]:
        """Every span."""
        return [span for body in list(self.bodies) for span in _spans(body)]


@contextmanager
def fake_collector() -> Generator[Collector]:
    """Listens for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.paths.add(self.path)
            collector.authorizations.add(self.headers.get("authorization", ""))
            collector.bodies.append(gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature is the library's
            """Nothing to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    collector = Collector(server.server_port)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield collector
    finally:
        server.shutdown()
        server.server_close()


def _spans(body: bytes) -> Iterator[CollectedSpan]:
    for process in ExportTraceServiceRequest.FromString(body).resource_spans:
        service = str(_table(process.resource.attributes)["service.name"])
        for scope in process.scope_spans:
            for span in scope.spans:
                yield CollectedSpan(
                    service=service.removeprefix("odea-"),
                    name=span.name,
                    kind=span.kind,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    attributes=_table(span.attributes),
                    links=tuple(link.span_id.hex() for link in span.links),
                    began_ns=span.start_time_unix_nano,
                    ended_ns=span.end_time_unix_nano,
                )


def _table(pairs: Iterable[KeyValue]) -> dict[str, str | int | float | bool]:
    table: dict[str, str | int | float | bool] = {}
    for pair in pairs:
        field = pair.value.WhichOneof("value")
        assert field is not None
        table[pair.key] = getattr(pair.value, field)
    return table
