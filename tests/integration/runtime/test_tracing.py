"""Spans are joined and sent as they should be, and a collector that is away costs nothing: in an own process."""

import os
import subprocess
import sys
import time
from collections.abc import Generator
from pathlib import Path

import pytest

from support.collector import CollectedSpan, Collector, fake_collector

SCRIPT = """
import sys
from odea_runtime import tracing
from odea_runtime.service import main
from odea_runtime.settings import Settings

async def work(settings, stop):
    print(sorted(name for name in sys.modules if name.startswith("opentelemetry"))[:1])
    places = []
    for name in ("one", "two"):
        with tracing.entering() as request:
            request.rename(name)
            request.note("odea.request_id", "odea_sk_AAAAAAAAAAAA_canarycanary")
            request.note("text", "canary-not-listed")
            with tracing.calling("odea.v1.hall.sing"):
                header = dict(tracing.headers())
            with tracing.serving("odea.v1.hall.sing", header):
                places.append(tracing.place())
    with tracing.working("both", iter(places)):
        pass
    with tracing.working("nobody's", iter([])):
        pass
    try:
        with tracing.entering("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01") as request:
            with tracing.asking("upstream"):
                raise ValueError("canary-in-an-error")
    except ValueError:
        pass

async def flood(settings, stop):
    for _ in range(20_000):
        with tracing.entering():
            pass

main("hall", Settings, {"work": work, "flood": flood})
"""
CLIENT, SERVER = 3, 2


@pytest.fixture
def collector() -> Generator[Collector]:
    with fake_collector() as collector:
        yield collector


def run(folder: Path, command: str, **environ: str) -> subprocess.CompletedProcess[str]:
    script = folder / "hall.py"
    script.write_text(SCRIPT)
    given = {"PATH": os.environ["PATH"], "ODEA_NATS_URL": "nats://127.0.0.1:4222", "ODEA_TRACE_RATIO": "1"}
    argv = [sys.executable, str(script), command]
    ended = subprocess.run(argv, env=given | environ, capture_output=True, text=True, timeout=60, check=False)
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended


def named(collector: Collector) -> dict[str, list[CollectedSpan]]:
    found: dict[str, list[CollectedSpan]] = {}
    for span in collector.spans:
        found.setdefault(span.name, []).append(span)
    return found


def test_spans_are_joined_across_messages_and_batches(tmp_path: Path, collector: Collector) -> None:
    run(tmp_path, "work", ODEA_OTLP_ENDPOINT=collector.url)
    spans = named(collector)
    (one,), (two,) = spans["one"], spans["two"]
    calls = [span for span in spans["odea.v1.hall.sing"] if span.kind == CLIENT]
    served = [span for span in spans["odea.v1.hall.sing"] if span.kind == SERVER]
    assert [span.parent_id for span in calls] == [one.span_id, two.span_id]
    assert [span.parent_id for span in served] == [span.span_id for span in calls]
    (both,) = spans["both"]
    assert (both.trace_id, both.parent_id, both.links) == (one.trace_id, served[0].span_id, (served[1].span_id,))
    assert "nobody's" not in spans, "work for no request begins no trace"
    (followed,) = spans["request"]
    assert (followed.trace_id, followed.parent_id) == ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
    assert spans["upstream"][0].attributes["error.type"] == "ValueError"


def test_only_what_is_listed_leaves(tmp_path: Path, collector: Collector) -> None:
    """P6."""
    run(tmp_path, "work", ODEA_OTLP_ENDPOINT=collector.url)
    assert "[redacted]" in collector.text, "a key was given as a request's id"
    assert "canary" not in collector.text.replace(str(tmp_path), "")


def test_without_an_endpoint_nothing_is_loaded(tmp_path: Path, collector: Collector) -> None:
    assert run(tmp_path, "work").stdout == "[]\n"
    assert run(tmp_path, "work", ODEA_OTLP_ENDPOINT=collector.url).stdout == "['opentelemetry']\n"


def test_the_standard_variables_do_as_well(tmp_path: Path, collector: Collector) -> None:
    headers = "authorization=Bearer%20token-61,x-odd=1"
    run(tmp_path, "work", OTEL_EXPORTER_OTLP_ENDPOINT=f"{collector.url}/", OTEL_EXPORTER_OTLP_HEADERS=headers)
    assert collector.spans
    assert (collector.paths, collector.authorizations) == ({"/v1/traces"}, {"Bearer token-61"})


def test_the_share_of_requests_is_kept(tmp_path: Path, collector: Collector) -> None:
    run(tmp_path, "work", ODEA_OTLP_ENDPOINT=collector.url, ODEA_TRACE_RATIO="0")
    # A caller who is to be believed decides for itself.
    assert {span.name for span in collector.spans} == {"request", "upstream"}


def test_the_queue_is_bounded(tmp_path: Path) -> None:
    """P10."""
    began = time.monotonic()
    ended = run(tmp_path, "flood", ODEA_OTLP_ENDPOINT="http://127.0.0.1:9", ODEA_TRACE_QUEUE_MAX="100")
    assert ended.returncode == 0
    assert time.monotonic() - began < 30, "nobody waits for a collector that is not there"
    assert ended.stderr.count("traces can't be sent") <= 1


@pytest.mark.parametrize(
    ("name", "value"), [("ODEA_OTLP_ENDPOINT", "canary:4318"), ("ODEA_OTLP_HEADERS", "canary-without-a-value")]
)
def test_settings_that_cannot_work_are_named(tmp_path: Path, collector: Collector, name: str, value: str) -> None:
    ended = run(tmp_path, "work", **{"ODEA_OTLP_ENDPOINT": collector.url, name: value})
    assert ended.returncode == 78
    assert "ODEA_OTLP_" in ended.stderr
    assert "canary" not in ended.stderr
