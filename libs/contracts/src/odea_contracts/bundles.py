"""Bundles: what goes the same way at the same moment, in one message.

**Requests and replies.** A request's body may be a bundle wherever one reply answers it. Each part is a request as
if it had been sent by itself, with its own headers and its own reply. Replies come as bundles to the inbox that the
message names, as soon as each is there: those of one bundle may come in several. Whoever knows no bundles refuses one
whole, with a `Failure`.

**Audio streams.** Whoever asks for a stream may name a subject in `Odea-Bundles-To`. The frames of all streams between
the two then come there, in MessagePack, as audio is no text: each part names the subject that it would have gone to by
itself. The reply subject of such a message takes control messages likewise.
"""

from typing import Annotated, Final, TypeAlias

from msgspec import Meta, Raw

from odea_contracts.base import Message

BUNDLE_MAX: Final = 256
"""Requests in a bundle."""
BUNDLE_BYTES_MAX: Final = 256 * 1024
"""Of a bundle of several parts, far below what NATS takes. One part alone may be as large as NATS takes it."""
HEADERS_MAX: Final = 16
HEADER_CHARS_MAX: Final = 256
HeaderText = Annotated[str, Meta(max_length=HEADER_CHARS_MAX)]


class BundledRequest(Message):
    """A request in a bundle.

    Attributes:
        headers: as the message's own would be.
        body: what the subject takes.
    """

    headers: Annotated[dict[HeaderText, HeaderText], Meta(max_length=HEADERS_MAX)]
    body: Raw


class BundledReply(Message):
    """A reply in a bundle.

    Attributes:
        number: of the request that it answers, in the order of its bundle, from 0.
        body: what the subject answers.
    """

    number: Annotated[int, Meta(ge=0, lt=BUNDLE_MAX)]
    body: Raw


RequestBundle: TypeAlias = Annotated[tuple[BundledRequest, ...], Meta(min_length=1, max_length=BUNDLE_MAX)]
ReplyBundle: TypeAlias = Annotated[tuple[BundledReply, ...], Meta(min_length=1, max_length=BUNDLE_MAX)]

HEADER_BUNDLES_TO: Final = "Odea-Bundles-To"


class StreamPart(Message, array_like=True):
    """A frame of an audio stream, or a control message, in a bundle.

    Attributes:
        to: the subject that it would have gone to.
        reply: where a frame's control messages go; empty in a control message.
        frame: which kind of frame, as `Odea-Frame`; empty in a control message.
        seq: its number, as `Odea-Seq`; 0 if it has none.
        body: as the message's own would be.
    """

    to: str
    body: bytes
    reply: str = ""
    frame: str = ""
    seq: int = 0


StreamBundle: TypeAlias = tuple[StreamPart, ...]
