"""LiteLLM with us as `api_base`: its library, and its proxy in front of us."""

import json
import os
import secrets
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
        # Without a key of its own it refuses to start.
        master = f"sk-{secrets.token_hex(32)}"
        models = [{"model_name": "speech", "litellm_params": params}]
        config.write_text(json.dumps({"model_list": models, "general_settings": {"master_key": master}}))
        command = [str(Path(sys.executable).with_name("litellm")), "--config", str(config), "--port", str(port)]
        said = Path(folder) / "log"
        with said.open("w") as log:
            proxy = subprocess.Popen([*command, "--host", "127.0.0.1"], stdout=log, stderr=log)
        try:
            heard = spoken_by(f"http://127.0.0.1:{port}", master, proxy)
        finally:
            proxy.terminate()
            proxy.wait(10)
        assert heard is not None, f"the proxy did not start: {said.read_text()[-1500:]}"
        return heard


def spoken_by(url: str, master: str, proxy: "subprocess.Popen[bytes]") -> float | None:
    """How long the speech lasted; nothing if nobody came to answer."""
    headers = {"authorization": f"Bearer {master}"}
    body = {"model": "speech", "voice": "alloy", "input": TEXT, "response_format": "pcm"}
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and proxy.poll() is None:
        try:
            answer = httpx.post(f"{url}/v1/audio/speech", json=body, headers=headers, timeout=60, trust_env=False)
        except httpx.ConnectError:
            time.sleep(0.5)
            continue
        answer.raise_for_status()
        return len(answer.content) / 48000
    return None


print(json.dumps({"seconds": [by_library(), by_proxy()]}))
