"""`python -m fakes.openai`: the fake as a process, for benches."""

import asyncio

import click

from fakes.openai.app import KEY, FakeOpenAI
from fakes.openai.behaviour import Kind
from fakes.serving import Delays, serve_forever


@click.command()
@click.option("--port", default=0)
@click.option("--kind", type=click.Choice([kind.value for kind in Kind]), default=Kind.OPENAI.value)
@click.option("--key", default=KEY)
@click.option("--first-s", default=0.0, help="Median until the first byte.")
@click.option("--between-s", default=0.0, help="Median between two pieces.")
@click.option("--sigma", default=0.0, help="Of the log-normal distribution.")
@click.option("--pieces", default=4)
def main(port: int, kind: str, key: str, first_s: float, between_s: float, sigma: float, pieces: int) -> None:
    """Serve until told to stop."""
    delays = Delays(first_s=first_s, between_s=between_s, sigma=sigma)
    asyncio.run(serve_forever(FakeOpenAI(Kind(kind), keys=(key,), delays=delays, pieces=pieces).app, port))


main()
