"""How audio is put into a body: bare, or as OpenAI's server-sent events."""

import base64
from typing import Final, Protocol

from odea_contracts.synth import Head
from odea_gateway.speech import StreamFormat


class Wrapping(Protocol):
    """Turns pieces of audio into pieces of a body."""

    def content_type(self, head: Head) -> str:
        """The type of the body."""
        ...

    def wrap(self, audio: bytes) -> bytes:
        """One piece."""
        ...

    def end(self, units: int) -> bytes:
        """What follows the last piece of a speech that was charged `units`."""
        ...


class _Bare:
    def content_type(self, head: Head) -> str:
        return head.content_type

    def wrap(self, audio: bytes) -> bytes:
        return audio

    def end(self, units: int) -> bytes:  # noqa: ARG002 - the protocol's
        return b""


class _Events:
    """`speech.audio.delta` for each piece, then `speech.audio.done` with the usage.

    OpenAI counts tokens; here `input_tokens` and `total_tokens` are the charged characters, and audio costs nothing.
    """

    def content_type(self, head: Head) -> str:  # noqa: ARG002 - the protocol's
        return "text/event-stream; charset=utf-8"

    def wrap(self, audio: bytes) -> bytes:
        return b'data: {"type":"speech.audio.delta","audio":"' + base64.b64encode(audio) + b'"}\n\n'

    def end(self, units: int) -> bytes:
        usage = f'{{"input_tokens":{units},"output_tokens":0,"total_tokens":{units}}}'
        return f'data: {{"type":"speech.audio.done","usage":{usage}}}\n\n'.encode()


WRAPPINGS: Final[dict[StreamFormat, Wrapping]] = {StreamFormat.AUDIO: _Bare(), StreamFormat.SSE: _Events()}
