"""Limits of one account that differ from its plan's, as options of a verb."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import click

from odea_local.admin.values import Count, unless_none

F = TypeVar("F", bound=Callable[..., object])


def with_limits(function: F) -> F:
    """Give a verb the options `--units`, `--requests-per-minute`, `--requests-burst` and `--in-flight`."""
    for option, field, least, text in (
        ("--in-flight", "in_flight_max", 1, "Requests at the same time, or none for no limit."),
        ("--requests-burst", "requests_burst", 1, "Requests at once before the rate holds them back."),
        ("--requests-per-minute", "requests_per_minute", 1, "Requests a minute, or none for no limit."),
        ("--units", "units", 0, "Characters in a window, or none for no limit."),
    ):
        function = click.option(option, field, type=Count(least), help=text)(function)
    return function


def overrides_from(limits: Mapping[str, int | str | None]) -> dict[str, int | None]:
    """The limits that were given, as the API reads them."""
    return {field: unless_none(value) for field, value in limits.items() if value is not None}
