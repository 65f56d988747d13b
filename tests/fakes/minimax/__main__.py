"""`python -m fakes.minimax`: the fake as a process, for benches."""

import asyncio

import click

from fakes.minimax.app import KEY, FakeMiniMax
from fakes.serving import Delays, serve_forever


@click.command()
@click.option("--port", default=0)
@click.option("--key", default=KEY)
@click.option("--first-s", default=0.0, help="Median until the first byte.")
@click.option("--between-s", default=0.0, help="Median between two pieces.")
@click.option("--sigma", default=0.0, help="Of the log-normal distribution.")
@click.option("--pieces", default=4)
def main(port: int, key: str, first_s: float, between_s: float, sigma: float, pieces: int) -> None:
    """Serve until told to stop."""
    delays = Delays(first_s=first_s, between_s=between_s, sigma=sigma)
    asyncio.run(serve_forever(FakeMiniMax(keys=(key,), delays=delays, pieces=pieces).app, port))


main()
