"""What is typed at the command line, read."""

import re
from datetime import UTC, datetime
from typing import Any, Final

import click

_DURATION: Final = re.compile(r"([0-9]{1,9})(s|m|h|d)")
_UNITS_MS: Final = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Duration(click.ParamType[int]):
    """`90s`, `30m`, `12h`, `14d`: milliseconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The milliseconds."""
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(str(value))
        if match is None:
            self.fail(f"{value!r} is no duration such as 90s, 30m, 12h or 14d.", param, ctx)
        return int(match[1]) * _UNITS_MS[match[2]]


class Moment(click.ParamType[int | str]):
    """A day or a time in ISO 8601, UTC where it names no zone: Unix milliseconds. `never` is no time at all."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The milliseconds, or `never`."""
        if value == "never" or isinstance(value, int):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is no time such as 2027-01-31 or 2027-01-31T12:00:00Z.", param, ctx)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)


class Count(click.ParamType[int | str]):
    """A whole number above or at a least one, or `none` for no limit."""

    name = "number|none"

    def __init__(self, least: int = 1) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number, or `none`."""
        if value == "none" or isinstance(value, int):
            return value
        text = str(value).replace("_", "")
        if not text.isdecimal() or int(text) < self._least:
            self.fail(f"{value!r} is neither a number from {self._least} on nor none.", param, ctx)
        return int(text)


def unless_none(value: int | str | None) -> int | None:
    """What goes into JSON for a `Count` or a `Moment`: null for its word for nothing."""
    return value if isinstance(value, int) else None


def moment_text(ms: int | None) -> str:
    """A time for people, in UTC."""
    return "" if ms is None else datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
