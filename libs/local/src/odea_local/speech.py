"""`odea say`: one speech request to the running stack, as any client would make it."""

import json
import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx
import msgspec

from odea_local.errors import LocalError

FORMATS = ("mp3", "opus", "aac", "flac", "wav", "pcm")
CONNECT_WAIT_S = 5.0
READ_WAIT_S = 60.0
ERROR_BYTES_MAX = 65_536
STANDARD_OUTPUT = Path("-")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to say; the field names are those of the HTTP API."""

    input: str
    model: str
    voice: str
    response_format: str


def format_of(output: Path) -> str:
    """The audio format that a file's name asks for; mp3 for standard output.

    Raises:
        LocalError: the name ends in something else than an audio format that exists.
    """
    suffix = output.suffix.removeprefix(".").lower()
    if output == STANDARD_OUTPUT:
        return "mp3"
    if suffix not in FORMATS:
        raise LocalError(f"{output}: the name must end in one of {', '.join(FORMATS)}.")
    return suffix


def say(url: str, key_file: Path, request: Request, output: Path) -> str:
    """Speak into a file, which appears only if the audio came whole.

    Returns:
        The characters that were charged, or "" if the gateway did not say.

    Raises:
        LocalError: with the API's own message, or the reason why it did not answer.
    """
    try:
        key = key_file.read_text().strip()
    except FileNotFoundError:
        raise LocalError(f"{key_file} is missing. ./odea up makes a new key.") from None
    headers = {"Authorization": f"Bearer {key}"}
    timeout = httpx.Timeout(READ_WAIT_S, connect=CONNECT_WAIT_S)
    body = msgspec.to_builtins(request)
    try:
        # trust_env: a proxy from the environment has no business between us and the loopback.
        with (
            httpx.Client(trust_env=False, timeout=timeout) as client,
            client.stream("POST", f"{url}/v1/audio/speech", json=body, headers=headers) as response,
        ):
            if not response.is_success:
                raise LocalError(_explain(response))
            with _whole_or_nothing(output) as file:
                for chunk in response.iter_bytes():
                    file.write(chunk)
            return response.headers.get("odea-characters", "")
    except httpx.ConnectError:
        raise LocalError(f"nothing answers at {url}. See ./odea status") from None
    except httpx.TransportError as error:
        raise LocalError(f"the speech from {url} broke off: {error or type(error).__name__}") from error


def _explain(response: httpx.Response) -> str:
    """One line from the API's error object, or from the status when there is none."""
    content = b""
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) > ERROR_BYTES_MAX:
            break
    try:
        message = str(json.loads(content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        message = response.reason_phrase
    return f"HTTP {response.status_code}: {message}"


@contextmanager
def _whole_or_nothing(output: Path) -> Generator[IO[bytes]]:
    if output == STANDARD_OUTPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(output)
    except OSError as error:
        raise LocalError(f"cannot write {output}: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)
