"""LiveKit's plugin: prewarmed, as server-sent events, and as bare audio for models that it asks for no events."""

import asyncio
import json
import os

import aiohttp
from livekit.plugins import openai


async def seconds(model: str) -> float:
    tts = openai.TTS(model=model, base_url=os.environ["ODEA_URL"], api_key=os.environ["ODEA_KEY"])
    tts.prewarm()
    heard = 0.0
    async for spoken in tts.synthesize(os.environ["ODEA_TEXT"]):
        heard += spoken.frame.duration
    await tts.aclose()
    return heard


async def prewarm_status() -> int:
    """What the plugin asks for when it opens its connection early, and whose answer it does not look at."""
    headers = {"authorization": f"Bearer {os.environ['ODEA_KEY']}"}
    async with aiohttp.ClientSession(headers=headers) as session, session.get(f"{os.environ['ODEA_URL']}/") as answer:
        return answer.status


async def main() -> None:
    assert await prewarm_status() == 200
    print(json.dumps({"seconds": [await seconds("gpt-4o-mini-tts"), await seconds("tts-1")]}))


asyncio.run(main())
