"""A stand-in for Odea's services: starts fast, answers what the stack and the demo ask, and fails on request.

It is copied to `odea_<name>/__main__.py` in a folder on `PYTHONPATH`, so the supervisor runs it as it runs the real
service. `STANDIN_<NAME>` in the environment makes it misbehave: `fail-migration`, `fail`, `config`, `deaf`.
"""

import asyncio
import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

NAME = Path(__file__).parent.name.removeprefix("odea_")
MOOD = os.environ.get(f"STANDIN_{NAME.upper()}", "")


def main() -> None:
    if MOOD == "config":
        say("ODEA_SOMETHING is wrong")
        sys.exit(78)
    if sys.argv[1] == "migrate":
        say(f"migrating {NAME}")
        sys.exit(1 if MOOD == "fail-migration" else 0)
    if MOOD == "fail":
        sys.exit("the stand-in does not want to run")
    stopped = threading.Event()

    def stop(*_: object) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, signal.SIG_IGN if MOOD == "deaf" else stop)
    servers = [listen("ODEA_OPS_ADDRESS")]
    if NAME == "gateway":
        servers.append(listen("ODEA_GATEWAY_ADDRESS"))
    if NAME in {"keys", "quota"}:
        threading.Thread(target=answer_demo, daemon=True).start()
    say(f"{NAME} serves")
    stopped.wait()
    for server in servers:
        server.shutdown()


def answer_demo() -> None:
    # Only here, because these imports would slow down the start of all the others.
    from integration.local.demo_answers import answer

    asyncio.run(answer(os.environ["ODEA_NATS_URL"], os.environ["ODEA_NATS_SEED"], NAME))


def say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def listen(variable: str) -> ThreadingHTTPServer:
    host, _, port = os.environ[variable].rpartition(":")
    server = ThreadingHTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    return server


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.answer(200, b"ready")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "Bearer odea_sk_" not in self.headers.get("Authorization", ""):
            self.answer(401, b'{"error": {"message": "The API key is not valid."}}')
        elif body["input"] == "broken":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"half")
        else:
            self.answer(200, f"audio of {body['input']} as {body.get('response_format', 'mp3')}".encode())

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("odea-characters", "5")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the library's
        """Keeps the log short."""


main()
