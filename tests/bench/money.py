"""Does the money add up? The question that decides whether a run counts, answered request by request.

| The client | is charged |
|---|---|
| got all of it | its characters, once |
| was refused | nothing |
| left after the first audio | what the upstream billed: the whole text |
| left before the first audio | nothing, or the whole text if its first audio was on its way already |
| saw a cut, or no answer at all | nothing; the upstream's bill is written off, and listed |

Where processes are killed, three more things may be (ADR 0016), each listed by id: a charge whose end did not reach the
client since synth died before the receipt (*undelivered*), a whole speech whose receipt died with the bus or the
gateway and whose charge was taken back, and somebody who left being charged nothing.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from bench.books import Books, Watch
from bench.records import End, Record, Wish


@dataclass(kw_only=True)
class Verdict:
    """What came of it.

    Attributes:
        faults: everything that does not add up; empty if all is well.
        synthesised: characters, by the upstream's count.
        charged: characters.
        written_off: characters that the upstream synthesised and nobody paid, by request id.
        undelivered: requests that were charged although the end did not reach the client.
        whole: speeches that clients received whole.
        left: speeches that clients left and paid for.
        looks: how often the balances were looked at meanwhile.
        over: accounts that were seen over their limit.
    """

    faults: list[str] = field(default_factory=list[str])
    synthesised: int = 0
    charged: int = 0
    written_off: dict[str, int] = field(default_factory=dict[str, int])
    undelivered: list[str] = field(default_factory=list[str])
    whole: int = 0
    left: int = 0
    looks: int = 0
    over: int = 0

    @property
    def good(self) -> bool:
        """Whether the money adds up."""
        return not self.faults


def judge(
    records: Iterable[Record],
    synthesised: Mapping[str, int],
    books: Books,
    *,
    limits: Mapping[str, int],
    watch: Watch,
    killed: bool = False,
) -> Verdict:
    """Hold what clients saw, what the upstream made and what the ledger says against each other.

    Args:
        records: every request that was made of Odea.
        synthesised: characters, by request id; of these requests alone.
        books: the ledger's.
        limits: units by account.
        watch: of the balances, during the run.
        killed: processes were killed meanwhile.
    """
    known = {record.id: record for record in records}
    verdict = Verdict(synthesised=sum(synthesised.values()), looks=watch.looks)
    verdict.charged = sum(map(sum, books.charges.values()))
    verdict.over = len(watch.over)
    for record in known.values():
        _judge_request(record, synthesised.get(record.id, 0), books, verdict, killed=killed)
    by_request, verdict.faults = verdict.faults, []
    _judge_totals(books, verdict)
    _judge_limits(known.values(), books, limits, watch, verdict)
    _judge_strangers(known.keys(), synthesised, books, verdict)
    # What concerns everybody is told first.
    verdict.faults += by_request
    return verdict


def _judge_request(record: Record, made: int, books: Books, verdict: Verdict, *, killed: bool) -> None:
    charges = books.charges.get(record.id, [])
    paid = sum(charges)
    if len(charges) > 1:
        verdict.faults.append(f"{record.id} was charged {len(charges)} times")
    if record.end is End.WHOLE and not record.sound:
        verdict.faults.append(f"{record.id} ended as whole after {record.bytes} bytes that are not the audio")
    if paid not in _fair(record, killed=killed):
        verdict.faults.append(
            f"{record.id} ({record.wish}) ended as {record.end}, {record.status} {record.code}, after"
            f" {record.total_ms:.0f} ms, with {record.characters} characters, and was charged {paid}"
        )
    elif paid and record.end in {End.BROKEN, End.LOST, End.HUNG}:
        verdict.undelivered.append(record.id)
    if paid > made:
        verdict.faults.append(f"{record.id} was charged {paid}, but {made} were synthesised")
    if made > paid:
        _judge_write_off(record, made - paid, books, verdict, killed=killed)
    verdict.whole += record.end is End.WHOLE
    verdict.left += record.end is End.LEFT and paid > 0


def _fair(record: Record, *, killed: bool) -> Collection[int]:
    """What a request may be charged."""
    whole = record.characters
    match record.end:
        case End.WHOLE:
            return (0, whole) if killed else (whole,)
        case End.LEFT if record.status == 200:
            return (0, whole) if killed else (whole,)
        case End.LEFT:
            return (0, whole)
        case End.REFUSED:
            return (0,)
        case _:
            return (0, whole) if killed else (0,)


def _judge_write_off(record: Record, units: int, books: Books, verdict: Verdict, *, killed: bool) -> None:
    verdict.written_off[record.id] = units
    on_record = record.id in books.written_off or record.id in books.lost_attempts
    if not on_record:
        verdict.faults.append(f"{record.id}: {units} were synthesised and not charged, and no record says why")
    if record.wish is Wish.OK and not killed:
        verdict.faults.append(f"{record.id}: {units} were written off, though nothing was to go wrong")


def _judge_strangers(known: Collection[str], synthesised: Mapping[str, int], books: Books, verdict: Verdict) -> None:
    for what, ids in (("synthesised", synthesised.keys()), ("charged", books.charges.keys())):
        verdict.faults += [f"{stranger} was {what}, and nobody asked for it" for stranger in ids - known]


def _judge_totals(books: Books, verdict: Verdict) -> None:
    summed = {request_id: sum(units) for request_id, units in books.charges.items()}
    if books.events != books.charges:
        different = sorted(
            request_id
            for request_id in books.events.keys() | books.charges.keys()
            if books.events.get(request_id) != books.charges.get(request_id)
        )
        verdict.faults.append(f"events and records differ for {len(different)} requests, such as {different[:3]}")
    if books.entries != summed:
        verdict.faults.append(f"entries say {sum(books.entries.values())}, records {sum(summed.values())}")
    if sum(books.used.values()) != verdict.charged:
        verdict.faults.append(f"balances say {sum(books.used.values())}, records {verdict.charged}")
    if verdict.synthesised != verdict.charged + sum(verdict.written_off.values()):
        written_off = sum(verdict.written_off.values())
        verdict.faults.append(
            f"{verdict.synthesised} synthesised, {verdict.charged} charged and {written_off} written off"
        )
    if books.open_holds:
        verdict.faults.append(f"{books.open_holds} holds are still open")
    if books.audit:
        verdict.faults.append(f"the ledger's audit: {books.audit}")


def _judge_limits(
    records: Iterable[Record], books: Books, limits: Mapping[str, int], watch: Watch, verdict: Verdict
) -> None:
    for account, units in limits.items():
        if books.used.get(account, 0) > units:
            verdict.faults.append(f"{account} used {books.used[account]} of {units}")
    verdict.faults += [f"{account} was {units} over its limit for a moment" for account, units in watch.over.items()]
    # A limit that refuses must be used up: what is left is less than what was refused last.
    refused: dict[str, int] = {}
    for record in records:
        if record.code == "insufficient_quota":
            refused[record.tenant_id] = max(record.characters, refused.get(record.tenant_id, 0))
    for account, characters in refused.items():
        left = limits[account] - books.used.get(account, 0)
        if left >= characters:
            verdict.faults.append(f"{account} was refused {characters} with {left} left")
