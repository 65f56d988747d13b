"""What every message is made of: the base struct, the endpoint, and the constrained types that messages share."""

from dataclasses import dataclass
from typing import Annotated, Any, Final, Generic, TypeVar, dataclass_transform

from msgspec import Meta, Struct, field


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(field,))
class Message(Struct, frozen=True, kw_only=True, gc=False):
    """A body on the bus: immutable, built by keyword, unknown fields ignored when read.

    Messages hold values and other messages, never a way back to themselves, so the garbage collector need not look
    through the thousands that a busy service has in hand.
    """


RequestT = TypeVar("RequestT", bound=Message)
ReplyT = TypeVar("ReplyT")


@dataclass(frozen=True, slots=True)
class Endpoint(Generic[RequestT, ReplyT]):
    """One request/reply subject with the types of both directions.

    Attributes:
        subject: where requests are published.
        queue: the queue group of the service that answers.
        request: the type of the body.
        reply: the tagged union of everything that can come back, `Failure` included.
    """

    subject: str
    queue: str
    request: type[RequestT]
    reply: Any

    @property
    def verb(self) -> str:
        """What is asked of the service, as the end of its subject."""
        return self.subject.rpartition(".")[2]


# `(?!\n)` stands in the patterns because `$` alone lets a line break through at the end.
Id = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_]{1,64}$(?!\n)",
        description="Letters, digits and underscores, so that it fits a subject",
    ),
]
HoldId = Annotated[
    str,
    Meta(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$(?!\n)",
        description="A UUID in lower case",
    ),
]
REQUEST_ID: Final = r"[A-Za-z0-9_.:-]{1,128}"
RequestId = Annotated[str, Meta(pattern=rf"^{REQUEST_ID}$(?!\n)", description="Joins one request's logs and events")]
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)")]
Units = Annotated[int, Meta(ge=0, le=10**12, description="Billed characters")]
Milliseconds = Annotated[int, Meta(ge=0, le=2**53)]

Cursor = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9_-]{1,128}$(?!\n)",
        description="Where the next page of a list begins, as the page before gave it; its form means nothing",
    ),
]
PageSize = Annotated[int, Meta(ge=1, le=200)]
IdempotencyKey = Annotated[
    str,
    Meta(pattern=r"^[!-~]{1,255}$(?!\n)", description="The caller's name for one change, however often it is asked"),
]
Origin = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Za-z.:%_-]{1,64}$(?!\n)",
        description="From where a change was asked: a network address, or a word for what has none",
    ),
]
UNKNOWN: Final = "unknown"


class Change(Message, kw_only=True):
    """What every request that changes something says: who asks, for the audit, and by which name it may ask again.

    Attributes:
        actor: on whose behalf: a key id, or the operator's name.
        origin: the network address that the caller was seen at.
        idempotency_key: the caller's name for the change. A repeat of the same actor under the same name changes
            nothing and gets the first answer; with other content it is a conflict. Remembered for a day.
    """

    actor: Name = UNKNOWN
    origin: Origin = UNKNOWN
    idempotency_key: IdempotencyKey | None = None
