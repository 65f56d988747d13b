"""Peppers: the secrets of the service itself, without which a stolen table of hashes is of no use."""

import re
from dataclasses import dataclass, field
from typing import Final

PEPPERS_MAX: Final = 16
PEPPER_BYTES_MIN: Final = 32
_ID: Final = re.compile(r"[a-z0-9_-]{1,16}")
_HEX: Final = re.compile(r"(?:[0-9a-fA-F]{2})+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pepper:
    """One pepper. Its id is stored beside every hash that it made."""

    pepper_id: str
    value: bytes = field(repr=False)


def parse_peppers(text: str) -> tuple[Pepper, ...]:
    """Peppers written as `id:hex`, separated by commas.

    Raises:
        ValueError: naming every fault by the position of the entry. Nothing of the text is repeated, because a pepper
            may stand where an id should.
    """
    entries = [entry.strip() for entry in text.split(",")]
    faults = [f"there are more than {PEPPERS_MAX} entries"] if len(entries) > PEPPERS_MAX else []
    peppers: dict[str, Pepper] = {}
    for position, entry in enumerate(entries[:PEPPERS_MAX], 1):
        pepper_id, _, digits = entry.partition(":")
        fault = _fault(pepper_id, digits) or ("repeats an id" if pepper_id in peppers else None)
        if fault:
            faults.append(f"entry {position} {fault}")
        else:
            peppers[pepper_id] = Pepper(pepper_id=pepper_id, value=bytes.fromhex(digits))
    if faults:
        raise ValueError("; ".join(faults))
    return tuple(peppers.values())


def _fault(pepper_id: str, digits: str) -> str | None:
    if not _ID.fullmatch(pepper_id):
        return "does not begin with an id of a-z, 0-9, _ and - (at most 16) and a colon"
    if not _HEX.fullmatch(digits):
        return "has no hex digits in pairs after the colon"
    if len(digits) < 2 * PEPPER_BYTES_MIN:
        return f"is shorter than {PEPPER_BYTES_MIN} bytes"
    return None
