"""OpenAI's SDK for Python: whole, streamed, as server-sent events, and with the SDK's own retries."""

import base64
import json
import os

import openai

client = openai.OpenAI(base_url=os.environ["ODEA_URL"], api_key=os.environ["ODEA_KEY"])
asked = {"model": "gpt-4o-mini-tts", "voice": "alloy", "input": os.environ["ODEA_TEXT"], "response_format": "pcm"}

whole = len(client.audio.speech.create(**asked).content)
with client.audio.speech.with_streaming_response.create(**asked) as answer:
    streamed = sum(map(len, answer.iter_bytes()))
events = 0
last = {}
with client.audio.speech.with_streaming_response.create(**asked, stream_format="sse") as answer:
    for line in answer.iter_lines():
        if line.startswith("data: "):
            last = json.loads(line.removeprefix("data: "))
            events += len(base64.b64decode(last.get("audio", "")))
assert last["type"] == "speech.audio.done", last
assert last["usage"]["total_tokens"] > 0, last
try:
    client.audio.speech.create(**{**asked, "voice": "nobody"})
    raise AssertionError("not refused")
except openai.BadRequestError as refused:
    assert refused.code == "voice_not_found", refused.code
assert "tts-1" in {model.id for model in client.models.list()}
print(json.dumps({"seconds": [size / 48000 for size in (whole, streamed, events)]}))
