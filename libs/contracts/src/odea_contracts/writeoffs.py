"""Taking back what was charged for speech that did not arrive (P2): quota's commands and events of that."""

from typing import Final, TypeAlias

from odea_contracts import subjects
from odea_contracts.base import Endpoint, HoldId, Id, Message, Milliseconds, RequestId, Units
from odea_contracts.errors import Failure
from odea_contracts.quota import HoldUnknown, Label, ReleasedBefore, SettledBefore


class WriteOff(Message):
    """Charge nothing for a hold, because what was made did not arrive by a fault of ours or the upstream's.

    An open or expired hold is settled with nothing. A charge is taken back, if it was made lately: every unit returns
    to where it came from, as entries of the ledger of their own.

    Attributes:
        provider_units: what the provider says that it billed all the same.
    """

    hold_id: HoldId
    provider: Label = ""
    model: Label = ""
    voice: Label = ""
    provider_units: Units | None = None


class WrittenOff(Message, tag_field="type", tag="written_off"):
    """Nothing is charged for the hold, and nothing will be. Repeating the write-off gives this answer again.

    Attributes:
        units: what had been charged and was taken back.
    """

    hold_id: HoldId
    units: int


WriteOffReply: TypeAlias = WrittenOff | SettledBefore | ReleasedBefore | HoldUnknown | Failure
"""`settled_before` says that the charge is too old to be taken back, and stands."""
WRITE_OFF: Final[Endpoint[WriteOff, WriteOffReply]] = Endpoint(
    subjects.QUOTA_WRITE_OFF, subjects.QUOTA, WriteOff, WriteOffReply
)


class WriteOffEvent(Message):
    """The body of `quota.evt.written_off`: a charge that `quota.evt.settled` told of was taken back.

    What a tenant pays is the sum of settled units less these.

    Attributes:
        units: what was charged, and is not any more.
        settled_at_ms: when it was charged.
    """

    hold_id: HoldId
    tenant_id: Id
    key_id: Id
    request_id: RequestId
    accounts: tuple[Id, ...]
    units: int
    settled_at_ms: Milliseconds
    at_ms: Milliseconds
