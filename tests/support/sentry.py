"""A stand-in for Sentry: takes what is sent to its ingest endpoint and shows it."""

import gzip
import threading
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Reports:
    """What has come in."""

    def __init__(self, port: int) -> None:
        self.dsn = f"http://sentrypublickey0123@127.0.0.1:{port}/1"
        self.bodies: list[str] = []

    @property
    def text(self) -> str:
        return "\n".join(self.bodies)


@contextmanager
def fake_sentry() -> Generator[Reports]:
    """Listens for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            reports.bodies.append(body.decode())
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the signature is the library's
            """Nothing to say."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    reports = Reports(server.server_port)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield reports
    finally:
        server.shutdown()
        server.server_close()
