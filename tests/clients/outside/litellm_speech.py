"""LiteLLM with us as `api_base`: its library, and its proxy in front of us."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

# Or it asks the internet for prices first.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
import litellm

URL, KEY, TEXT = os.environ["ODEA_URL"], os.environ["ODEA_KEY"], os.environ["ODEA_TEXT"]


def by_library() -> float:
    answer = litellm.speech(
        model="openai/tts-1", voice="alloy", input=TEXT, api_base=URL, api_key=KEY, response_format="pcm"
    )
    return len(answer.content) / 48000


def by_proxy() -> float:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        params = {"model": "openai/tts-1", "api_base": URL, "api_key": KEY}
        config.write_text(json.dumps({"model_list": [{"model_name": "speech", "litellm_params": params}]}))
        command = [str(Path(sys.executable).with_name("litellm")), "--config", str(config), "--port", str(port)]
        proxy = subprocess.Popen(
            [*command, "--host", "127.0.0.1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            return spoken_by(f"http://127.0.0.1:{port}", proxy)
        finally:
            proxy.terminate()
            proxy.wait(10)


def spoken_by(url: str, proxy: "subprocess.Popen[bytes]") -> float:
    body = {"model": "speech", "voice": "alloy", "input": TEXT, "response_format": "pcm"}
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and proxy.poll() is None:
        try:
            answer = httpx.post(f"{url}/v1/audio/speech", json=body, timeout=60, trust_env=False)
        except httpx.ConnectError:
            time.sleep(0.5)
            continue
        answer.raise_for_status()
        return len(answer.content) / 48000
    raise AssertionError("the proxy did not start")


print(json.dumps({"seconds": [by_library(), by_proxy()]}))
