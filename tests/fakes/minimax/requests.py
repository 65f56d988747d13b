"""What the fake takes: every rule of T2A v2 that its documents state, and no field that they do not name."""

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

MODELS = tuple(
    f"speech-{version}-{kind}" for version in ("2.8", "2.6", "02", "01") for kind in ("hd", "turbo")
)  # fmt: skip
# fmt: off
LANGUAGES = frozenset({
    "Chinese", "Chinese,Yue", "English", "Arabic", "Russian", "Spanish", "French", "Portuguese", "German",
    "Turkish", "Dutch", "Ukrainian", "Vietnamese", "Indonesian", "Japanese", "Italian", "Korean", "Thai", "Polish",
    "Romanian", "Greek", "Czech", "Finnish", "Hindi", "Bulgarian", "Danish", "Hebrew", "Malay", "Persian", "Slovak",
    "Swedish", "Croatian", "Filipino", "Hungarian", "Norwegian", "Slovenian", "Catalan", "Nynorsk", "Tamil",
    "Afrikaans", "auto",
})
# fmt: on
PAUSE = re.compile(r"<#([^#]*)#>")
_HUNDRED = Annotated[int, Meta(ge=-100, le=100)]


class Strict(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An object that takes just the fields that are named."""


class StreamOptions(Strict):
    exclude_aggregated_audio: bool = False


class VoiceSetting(Strict):
    voice_id: str = ""
    speed: Annotated[float, Meta(ge=0.5, le=2)] = 1.0
    vol: Annotated[float, Meta(gt=0, le=10)] = 1.0
    pitch: Annotated[int, Meta(ge=-12, le=12)] = 0
    emotion: (
        Literal["happy", "sad", "angry", "fearful", "disgusted", "surprised", "calm", "fluent", "whisper"] | None
    ) = None
    text_normalization: bool = False
    latex_read: bool = False


class AudioSetting(Strict):
    sample_rate: Literal[8000, 16000, 22050, 24000, 32000, 44100] = 32000
    bitrate: Literal[32000, 64000, 128000, 256000] = 128000
    format: Literal["mp3", "pcm", "flac", "wav", "pcmu_raw", "pcmu_wav", "opus"] = "mp3"
    channel: Literal[1, 2] = 1
    force_cbr: bool = False


class PronunciationDict(Strict):
    tone: list[str]


class TimbreWeight(Strict):
    voice_id: str
    weight: Annotated[int, Meta(ge=1, le=100)]


class VoiceModify(Strict):
    pitch: _HUNDRED = 0
    intensity: _HUNDRED = 0
    timbre: _HUNDRED = 0
    sound_effects: Literal["spacious_echo", "auditorium_echo", "lofi_telephone", "robotic"] | None = None


class T2a(Strict):
    model: str
    text: Annotated[str, Meta(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions = msgspec.field(default_factory=StreamOptions)
    voice_setting: VoiceSetting = msgspec.field(default_factory=VoiceSetting)
    audio_setting: AudioSetting = msgspec.field(default_factory=AudioSetting)
    pronunciation_dict: PronunciationDict | None = None
    timbre_weights: Annotated[list[TimbreWeight], Meta(max_length=4)] | None = None
    language_boost: str | None = None
    voice_modify: VoiceModify | None = None
    subtitle_enable: bool = False
    subtitle_type: Literal["sentence", "word", "word_streaming"] = "sentence"
    output_format: Literal["hex", "url"] = "hex"
    aigc_watermark: bool = False
    continuous_sound: bool = False


class RefusedError(Exception):
    """A code of the error table, with the text that goes with it."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code
        self.text = text


def read(body: bytes, voices: frozenset[str]) -> T2a:
    """The request; refused as MiniMax refuses it.

    Raises:
        RefusedError: 2013 for a bad field, 2054 for an unknown voice, 1042 for a text that cannot be read out.
    """
    try:
        asked = msgspec.json.decode(body, type=T2a)
    except msgspec.DecodeError as error:
        raise RefusedError(2013, f"invalid params, {error}") from error
    _check_fields(asked)
    _check_text(asked)
    _check_voices(asked, voices)
    return asked


def units(text: str) -> int:
    """What a text is billed: a Han character is two, anything else one."""
    return sum(2 if "\u4e00" <= char <= "\u9fff" else 1 for char in text)


def _check_fields(asked: T2a) -> None:
    if asked.model not in MODELS:
        raise RefusedError(2013, f"method t2a-v2 not have model: {asked.model}")
    form, modified, older = asked.audio_setting.format, asked.voice_modify, asked.model.startswith(("speech-0",))
    emotion, boost = asked.voice_setting.emotion, asked.language_boost
    rules = {
        "text": len(asked.text) < 10_000,
        "voice_setting emotion": emotion not in {"fluent", "whisper"} or "-2.6-" in asked.model,
        "language_boost": boost is None or boost in LANGUAGES,
        "language_boost model": not older or boost not in {"Persian", "Filipino", "Tamil"},
        "stream format": not asked.stream or not form.endswith("wav"),
        "bitrate": form == "mp3" or asked.audio_setting.bitrate == 128_000,
        "force_cbr": not asked.audio_setting.force_cbr or (asked.stream and form == "mp3"),
        "voice_modify": modified is None or form in ({"mp3"} if asked.stream else {"mp3", "wav", "flac"}),
        "subtitle_type": asked.subtitle_type != "word_streaming" or asked.stream,
        "pronunciation_dict": all("/" in rule.strip("/") for rule in (asked.pronunciation_dict or _NO_RULES).tone),
        "continuous_sound": not asked.continuous_sound or "-2.8-" in asked.model,
        "output_format": asked.output_format == "hex" or not asked.stream,
    }
    for name, kept in rules.items():
        if not kept:
            raise RefusedError(2013, f"invalid params, invalid params: {name}")


_NO_RULES = PronunciationDict(tone=[])


def _check_text(asked: T2a) -> None:
    invisible = sum(not char.isprintable() and char not in "\n\t" for char in asked.text)
    if invisible * 10 > len(asked.text):
        raise RefusedError(1042, "invisible character ratio exceeds limit")
    around = PAUSE.split(asked.text)
    for length in around[1::2]:
        if not re.fullmatch(r"\d{1,2}(\.\d{1,2})?", length) or float(length) < 0.01:
            raise RefusedError(2013, "invalid params, pause")
    if len(around) > 1 and not all(any(char.isalnum() for char in part) for part in around[0::2]):
        raise RefusedError(2013, "invalid params, pause must stand between text")


def _check_voices(asked: T2a, voices: frozenset[str]) -> None:
    mixed = [weight.voice_id for weight in asked.timbre_weights or ()]
    named = asked.voice_setting.voice_id
    if bool(mixed) == bool(named):
        raise RefusedError(2013, "invalid params, voice_setting voice_id")
    if not voices.issuperset(mixed or [named]):
        raise RefusedError(2054, "voice id not exist")
