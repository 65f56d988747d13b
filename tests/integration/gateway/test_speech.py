"""Speech over HTTP is what synth sent, byte for byte, in the shape that OpenAI's clients know."""

import os

import httpx

from integration.gateway.harness import BODY, SPEECH
from integration.gateway.standins import Standins, digest, say


async def test_audio_arrives_byte_for_byte(client: httpx.AsyncClient, standins: Standins) -> None:
    """P4."""
    frames = [os.urandom(size) for size in (1, 64 * 1024, 17, 40_000, 16 * 1024)]
    standins.synth.play = say(*frames)
    answer = await client.post(SPEECH, json=BODY)
    assert answer.status_code == 200, answer.text
    print(answer.headers)
    assert digest(answer.content) == digest(b"".join(frames))
