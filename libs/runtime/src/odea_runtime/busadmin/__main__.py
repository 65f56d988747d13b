"""`python -m odea_runtime.busadmin keys|config|apply`: logins, server configuration, stream and consumers."""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec
import nats.errors

from odea_contracts.permissions import DURABLES
from odea_contracts.subjects import INSTALLER, SUBJECTS_EVENTS
from odea_runtime import jetstream, logs
from odea_runtime.bus import Bus
from odea_runtime.busadmin.authorization import server_config
from odea_runtime.busadmin.nkeys import BusKeysError, make_keys, read_public_keys
from odea_runtime.settings import EXIT_CONFIG, Settings, SettingsError, load

CONNECT_WITHIN_S: Final = 60.0


def main(arguments: Sequence[str], program: str = "python -m odea_runtime.busadmin") -> int:
    """Run one command; returns the exit status.

    0 done, 1 not done, 78 for unusable settings. What went wrong is one line on stderr.
    """
    chosen = _parser(program).parse_args(arguments)
    try:
        match chosen.command:
            case "keys":
                _print_made(make_keys(chosen.folder, renew=chosen.renew, guest=chosen.guest))
            case "config":
                print(msgspec.json.format(msgspec.json.encode(server_config(read_public_keys(chosen.folder)))).decode())
            case _:
                return _apply(chosen.replicas, chosen.follower)
    except BusKeysError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 1
    return 0


def _parser(program: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=program, description="Logins, server configuration, stream and consumers.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="keys|config|apply")
    keys = commands.add_parser("keys", help="give every user of the bus an NKEY that lacks one, in a folder")
    keys.add_argument("folder", type=Path)
    keys.add_argument("--renew", metavar="USER", help="give this user another one; the server knows both for a while")
    keys.add_argument(
        "--guest", metavar="NAME", help="give a login to another service that wants to speak over the bus"
    )
    config = commands.add_parser("config", help="print the server's configuration for the public keys in a folder")
    config.add_argument("folder", type=Path)
    apply = commands.add_parser("apply", help="make the stream of events and its consumers, or bring them up to date")
    apply.add_argument("--replicas", type=int, choices=(1, 3, 5), default=1, help="servers that keep each event")
    apply.add_argument(
        "--follower", metavar="NAME", action="append", default=[], help="a consumer of all events for this guest"
    )
    return parser


def _print_made(made: dict[str, str]) -> None:
    for name, public in made.items():
        print(f"{name} {public}")


def _apply(replicas: int, followers: Sequence[str]) -> int:
    try:
        settings = load(Settings, os.environ)
    except SettingsError as error:
        print(f"unusable settings\n{error}", file=sys.stderr)
        return EXIT_CONFIG
    logs.configure("busadmin", log_format=settings.log_format, level=settings.log_level)
    try:
        asyncio.run(apply(settings, replicas=replicas, followers=followers))
    except (nats.errors.Error, TimeoutError) as error:
        print(f"the stream and its consumers could not be made: {logs.redact_text(repr(error))}", file=sys.stderr)
        return 1
    return 0


async def apply(settings: Settings, *, replicas: int = 1, followers: Sequence[str] = ()) -> None:
    """Connect, waiting a while for the server, and make the stream and the consumers.

    Raises:
        nats.errors.Error: the server refused.
        TimeoutError: there was no server, or no answer.
    """
    durables = {**DURABLES, **dict.fromkeys(followers, SUBJECTS_EVENTS)}
    bus = Bus(settings, INSTALLER)
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            await bus.start(lambda: jetstream.apply(bus, replicas=replicas, durables=durables))
    finally:
        await bus.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
