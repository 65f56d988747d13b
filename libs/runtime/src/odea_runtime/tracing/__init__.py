"""Traces: one request as a tree of spans, through HTTP, the bus, the database and the upstream.

Off unless an endpoint is set. Then nothing of OpenTelemetry is imported, and each call here costs one comparison. The
context crosses the bus in the header `traceparent` (W3C Trace Context) and nothing else does. What a span may say is
decided in `live`: names from the code and figures, never a text, a key or the words of an error (P6).
"""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol, Self, TypeAlias

from odea_contracts.synth import HEADER_TRACEPARENT
from odea_runtime.settings import Settings

if TYPE_CHECKING:
    from odea_runtime.tracing.live import Tracing

Place: TypeAlias = str
"""Where in a trace work stands, as the value of `traceparent`; empty if it is in none."""


class Span(Protocol):
    """A piece of work under way."""

    def note(self, name: str, value: str | float) -> None:
        """Say something of it. Names that are not listed in `live` are left out of what is sent."""
        ...

    def rename(self, name: str) -> None:
        """Name it by what is known only now."""
        ...

    def fail(self, kind: str) -> None:
        """It went wrong in this way; an exception that leaves the block says so by itself."""
        ...


class _Nothing:
    """The span of a process that does not trace."""

    __slots__ = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def note(self, name: str, value: str | float) -> None:
        pass

    def rename(self, name: str) -> None:
        pass

    def fail(self, kind: str) -> None:
        pass


class _State:
    """What `configure` made, if anything."""

    live: "Tracing | None" = None


_NOTHING: Final = _Nothing()
_NO_HEADERS: Final[Mapping[str, str]] = {}
_state: Final = _State()


def configure(service: str, settings: Settings) -> None:
    """Trace this process from now on, if the settings name where to.

    Raises:
        ValueError: what they name is no URL, or the headers are not `name=value`.
    """
    if settings.otlp_endpoint is None:
        return
    from odea_runtime.tracing.live import Tracing  # noqa: PLC0415 - most installations have no use for it

    _state.live = Tracing(service, settings)


def flush() -> None:
    """Send what waits, for a moment at most; the process is about to end."""
    live, _state.live = _state.live, None
    if live:
        live.stop()


def trace_statements() -> None:
    """Give every statement to PostgreSQL a span, as far as it is sent for a request."""
    if _state.live:
        _state.live.trace_statements()


def entering(place: Place = "") -> AbstractContextManager[Span]:
    """A request from outside. `place` is where its caller stands, if that is to be believed."""
    return _state.live.serving("request", place) if _state.live else _NOTHING


def calling(subject: str) -> AbstractContextManager[Span]:
    """A request to `subject`, until its answer is there; `headers` inside the block lead to it."""
    return _state.live.calling(subject) if _state.live else _NOTHING


def serving(subject: str, headers: Mapping[str, str] | None) -> AbstractContextManager[Span]:
    """The handling of a message on `subject`."""
    if not _state.live:
        return _NOTHING
    return _state.live.serving(subject, (headers or {}).get(HEADER_TRACEPARENT, ""), bus=True)


def working(name: str, places: Iterable[Place]) -> AbstractContextManager[Span]:
    """Work for several requests at once: part of the first one's trace, and linked with the others'."""
    return _state.live.working(name, places) if _state.live else _NOTHING


def asking(name: str) -> AbstractContextManager[Span]:
    """A request to somebody else's server. Not where further spans belong, so the block may be left in any task."""
    return _state.live.asking(name) if _state.live else _NOTHING


def place() -> Place:
    """Where the running task stands, to come back to it by `working`."""
    return _state.live.place() if _state.live else ""


def headers() -> Mapping[str, str]:
    """What a message must carry for its receiver to go on with the trace."""
    if not _state.live:
        return _NO_HEADERS
    where = _state.live.place()
    return {HEADER_TRACEPARENT: where} if where else _NO_HEADERS
