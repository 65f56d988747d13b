"""`odea-synth serve|migrate`: the only reader of the environment."""

import asyncio

from odea_runtime.service import main
from odea_synth.app import serve
from odea_synth.settings import SynthSettings


async def _migrate(settings: SynthSettings, _stop: asyncio.Event) -> None:
    # Imported here: the serving process has no use for the migration tools and their memory.
    from odea_runtime.migrations import migrate  # noqa: PLC0415

    await migrate(settings, "odea_synth", "synth")


def run() -> None:
    """The console script."""
    main("synth", SynthSettings, {"serve": serve, "migrate": _migrate})


if __name__ == "__main__":
    run()
