"""`odea-synth serve|migrate|await-schema`: the only reader of the environment."""

import asyncio
import os

from odea_runtime.service import main
from odea_synth.app import serve
from odea_synth.routing.file import heed_no_reload
from odea_synth.settings import SynthSettings


async def _serve(settings: SynthSettings, stop: asyncio.Event) -> None:
    # Also before there is a file to read anew, and where there is none.
    heed_no_reload()
    # Credentials of providers stand in variables that the routing names.
    await serve(settings, os.environ, stop)


async def _migrate(settings: SynthSettings, _stop: asyncio.Event) -> None:
    # Imported here: the serving process has no use for the migration tools and their memory.
    from odea_runtime.migrations import migrate  # noqa: PLC0415

    await migrate(settings, "odea_synth", "synth")


async def _await_schema(settings: SynthSettings, stop: asyncio.Event) -> None:
    from odea_runtime.migrations import await_schema  # noqa: PLC0415 - as above

    await await_schema(settings, "odea_synth", "synth", stop)


def run() -> None:
    """The console script."""
    main("synth", SynthSettings, {"serve": _serve, "migrate": _migrate, "await-schema": _await_schema})


if __name__ == "__main__":
    run()
