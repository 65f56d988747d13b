"""Writes an utterance as a request of T2A v2, or says why that cannot be done."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

from odea_contracts.minimax import MiniMax, VoiceSetting
from odea_contracts.synth import AudioFormat, TimestampKind
from odea_synth.providers.base import Encoded, ErrorClass, Pcm, ProviderError, SourceFormat, Utterance

TEXT_CHARS_MAX: Final = 9_999
SPEED_MIN: Final = 0.5
SPEED_MAX: Final = 2.0
RATES_HZ: Final = (8_000, 16_000, 22_050, 24_000, 32_000, 44_100)
# Named for opus by one page of theirs and by none denied.
_OPUS_RATES_HZ: Final = (8_000, 16_000, 24_000)
_DEFAULT_RATE_HZ: Final = 24_000
_NO_WISHES: Final = MiniMax()
_MADE: Final[Mapping[AudioFormat, tuple[int, ...]]] = {
    AudioFormat.MP3: RATES_HZ,
    AudioFormat.FLAC: RATES_HZ,
    AudioFormat.PCM: RATES_HZ,
    AudioFormat.OPUS: _OPUS_RATES_HZ,
}
_MODIFIED: Final = frozenset({AudioFormat.MP3, AudioFormat.FLAC, AudioFormat.WAV})
_PAUSE: Final = re.compile(r"<#([^#]*)#>")
_SECONDS: Final = re.compile(r"\d{1,2}(?:\.\d{1,2})?")
# Markup is a single word in parentheses, or begins with `<#`. Full-width marks sound the same and are nobody's markup.
_MARKUP: Final = re.compile(r"\(([^()\s]{1,64})\)|<(?=#)")


@dataclass(frozen=True, slots=True, kw_only=True)
class T2aRequest:
    """What is sent, and what will come.

    Attributes:
        streamed: the audio comes in events, as it is made.
    """

    body: bytes = field(repr=False)
    text: str = field(repr=False)
    streamed: bool


def source_format(utterance: Utterance) -> SourceFormat:
    """What MiniMax will send for an utterance: the client's format if it makes that, else samples for us to encode.

    Raises:
        ProviderError: of class caller; what is asked for cannot be had.
    """
    wishes = utterance.minimax or _NO_WISHES
    wanted, rate_hz = utterance.response_format, utterance.sample_rate_hz or _DEFAULT_RATE_HZ
    if wishes.voice_modify is not None:
        if wanted not in _MODIFIED or rate_hz not in RATES_HZ:
            raise _refused("minimax.voice_modify works with mp3, flac and wav alone.", "minimax.voice_modify")
        return Encoded(audio_format=wanted)
    if rate_hz in _MADE.get(wanted, ()):
        made: SourceFormat = Encoded(audio_format=wanted)
    else:
        # No rate is lost on the way: what they cannot make is made from more.
        made = Pcm(rate_hz=min((rate for rate in RATES_HZ if rate >= rate_hz), default=RATES_HZ[-1]))
    setting = wishes.audio_setting
    if setting and setting.channel == 2 and (isinstance(made, Pcm) or wanted is AudioFormat.PCM):
        raise _refused("Two channels can be had in mp3, flac and opus alone.", "minimax.audio_setting.channel")
    return made


def sent_text(utterance: Utterance) -> str:
    """The text as it is sent: nothing in it is markup unless that was asked for. As many characters as before."""
    if (utterance.minimax or _NO_WISHES).markup:
        return utterance.text
    return _MARKUP.sub(lambda found: f"\uff08{found[1]}\uff09" if found[1] else "\uff1c", utterance.text)


def _checked_text(utterance: Utterance) -> str:
    """The same, if MiniMax can speak it.

    Raises:
        ProviderError: of class caller; too long, or a pause that MiniMax does not take.
    """
    if len(utterance.text) > TEXT_CHARS_MAX:
        raise _refused(f"This model takes texts of at most {TEXT_CHARS_MAX} characters.", "input")
    if not (utterance.minimax or _NO_WISHES).markup:
        return sent_text(utterance)
    parts = _PAUSE.split(utterance.text)
    lengths, between = parts[1::2], parts[0::2]
    if not all(_SECONDS.fullmatch(length) and float(length) >= 0.01 for length in lengths):
        raise _refused("A pause is `<#seconds#>`, from 0.01 to 99.99 with at most two decimals.", "input")
    if lengths and not all(any(char.isalnum() for char in part) for part in between):
        raise _refused("A pause must stand between two pieces of text.", "input")
    return utterance.text


def write_request(utterance: Utterance, *, streaming: bool) -> T2aRequest:
    """The request for an utterance.

    Args:
        utterance: what to speak.
        streaming: whether to stream where MiniMax can.

    Raises:
        ProviderError: of class caller; what is asked for cannot be had.
    """
    wishes = utterance.minimax or _NO_WISHES
    source = source_format(utterance)
    wanted = AudioFormat.PCM if isinstance(source, Pcm) else source.audio_format
    # Effects can be streamed as mp3 alone, wav not at all.
    streamed = streaming and (wishes.voice_modify is None or wanted is AudioFormat.MP3)
    text = _checked_text(utterance)
    rate_hz = source.rate_hz if isinstance(source, Pcm) else utterance.sample_rate_hz or _DEFAULT_RATE_HZ
    setting = _plain(wishes.audio_setting)
    if wanted is not AudioFormat.MP3:
        setting = {name: value for name, value in setting.items() if name not in ("bitrate", "force_cbr")}
    if not streamed:
        setting.pop("force_cbr", None)
    body: dict[str, object] = {
        "model": utterance.model,
        "text": text,
        "stream": streamed,
        "voice_setting": _voice_setting(utterance, wishes),
        "audio_setting": setting | {"sample_rate": rate_hz, "format": wanted.value},
        **_plain(wishes, but=("voice_setting", "audio_setting", "markup")),
    }
    if streamed:
        body["stream_options"] = {"exclude_aggregated_audio": True}
    else:
        body["output_format"] = "hex"
    if utterance.timestamps is not None:
        word = utterance.timestamps is TimestampKind.WORD
        body |= {"subtitle_enable": True, "subtitle_type": "word" if word else "sentence"}
    return T2aRequest(body=msgspec.json.encode(body), text=text, streamed=streamed)


def _voice_setting(utterance: Utterance, wishes: MiniMax) -> dict[str, object]:
    setting = wishes.voice_setting or VoiceSetting()
    speed = utterance.speed if setting.speed is None else setting.speed
    if not SPEED_MIN <= speed <= SPEED_MAX:
        raise _refused(f"This model speaks at {SPEED_MIN} to {SPEED_MAX} times its own pace.", "speed")
    # A mix of voices takes the place of the one.
    voice = {} if wishes.timbre_weights else {"voice_id": utterance.voice}
    return voice | _plain(setting) | {"speed": speed}


def _plain(struct: msgspec.Struct | None, but: tuple[str, ...] = ()) -> dict[str, object]:
    """The fields that were given: MiniMax takes none that is null."""
    if struct is None:
        return {}
    fields = {name: value for name, value in msgspec.structs.asdict(struct).items() if name not in but}
    return {
        name: _plain(value) if isinstance(value, msgspec.Struct) else value
        for name, value in fields.items()
        if value is not None
    }


def _refused(text: str, param: str) -> ProviderError:
    return ProviderError(ErrorClass.CALLER, text, param=param)
