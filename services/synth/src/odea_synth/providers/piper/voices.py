"""Finds Piper's voices: an ONNX model and, beside it, a JSON file that describes it. Nothing heavy is loaded."""

import importlib.util
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from odea_synth.providers.base import ErrorClass, ProviderError, Voice

PROVIDER = "piper"


@dataclass(frozen=True, slots=True, kw_only=True)
class VoiceFile:
    """A voice on disk."""

    voice: Voice
    model_path: Path
    config_path: Path
    rate_hz: int


class _Audio(msgspec.Struct, frozen=True, kw_only=True):
    sample_rate: int


class _Language(msgspec.Struct, frozen=True, kw_only=True):
    code: str


class _Config(msgspec.Struct, frozen=True, kw_only=True):
    audio: _Audio
    dataset: str | None = None
    language: _Language | None = None


def find_voices(sources: Iterable[str]) -> Mapping[str, VoiceFile]:
    """The voices by id, which is the name of the model file without its ending.

    Args:
        sources: each the path of an `.onnx` file, or the name of an installed package that holds some.

    Raises:
        ProviderError: of class account; a source is missing, unreadable or holds no voice, or two have the same id.
    """
    found: dict[str, VoiceFile] = {}
    for source in sources:
        for model_path in _model_paths(source):
            file = _describe(model_path)
            if file.voice.id in found:
                raise unusable(f"there are two voices {file.voice.id}; the second is {model_path}")
            found[file.voice.id] = file
    return found


def unusable(detail: str) -> ProviderError:
    """The error for an installation that cannot speak."""
    return ProviderError(ErrorClass.ACCOUNT, "The voice engine is not available.", detail=detail)


def _model_paths(source: str) -> Iterator[Path]:
    if source.endswith(".onnx"):
        yield Path(source)
        return
    folders = _package_folders(source)
    models = sorted(path for folder in folders for path in Path(folder).rglob("*.onnx"))
    if not models:
        raise unusable(f"the voice package {source} is not installed or holds no .onnx file")
    yield from models


def _package_folders(package: str) -> Iterable[str]:
    if not package.isidentifier():
        raise unusable(f"{package!r} is neither the path of an .onnx file nor the name of a package")
    spec = importlib.util.find_spec(package)
    return (spec.submodule_search_locations or ()) if spec else ()


def _describe(model_path: Path) -> VoiceFile:
    config_path = model_path.with_name(f"{model_path.name}.json")
    if not model_path.is_file():
        raise unusable(f"there is no voice at {model_path}")
    try:
        config = msgspec.json.decode(config_path.read_bytes(), type=_Config)
    except (OSError, msgspec.MsgspecError) as error:
        raise unusable(f"{config_path} does not describe a voice: {error}") from error
    return VoiceFile(
        voice=Voice(
            id=model_path.stem,
            name=config.dataset or model_path.stem,
            language=config.language.code.replace("_", "-") if config.language else None,
            provider=PROVIDER,
        ),
        model_path=model_path,
        config_path=config_path,
        rate_hz=config.audio.sample_rate,
    )
