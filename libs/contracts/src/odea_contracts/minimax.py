"""What MiniMax alone can do, under MiniMax's own names: the object `minimax` in a request for speech.

Bounds are those of MiniMax's T2A v2, so that a value beyond them is refused before anything is held. Voice, format,
sample rate and subtitles have fields of their own in the request and are not repeated here. A provider of another kind
leaves the object alone.
"""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta

from odea_contracts.base import Message, Name

Emotion: TypeAlias = Literal[
    "happy", "sad", "angry", "fearful", "disgusted", "surprised", "calm", "fluent", "whisper"
]  # fmt: skip
SoundEffect: TypeAlias = Literal["spacious_echo", "auditorium_echo", "lofi_telephone", "robotic"]
LanguageBoost: TypeAlias = Literal[
    "Chinese", "Chinese,Yue", "English", "Arabic", "Russian", "Spanish", "French", "Portuguese", "German", "Turkish",
    "Dutch", "Ukrainian", "Vietnamese", "Indonesian", "Japanese", "Italian", "Korean", "Thai", "Polish", "Romanian",
    "Greek", "Czech", "Finnish", "Hindi", "Bulgarian", "Danish", "Hebrew", "Malay", "Persian", "Slovak", "Swedish",
    "Croatian", "Filipino", "Hungarian", "Norwegian", "Slovenian", "Catalan", "Nynorsk", "Tamil", "Afrikaans", "auto",
]  # fmt: skip
Percent: TypeAlias = Annotated[int, Meta(ge=-100, le=100)]


class VoiceSetting(Message):
    """How the voice speaks.

    Attributes:
        speed: instead of the request's own, which MiniMax takes only from 0.5 to 2.
        vol: loudness; 0 itself is not allowed.
        pitch: in semitones.
        emotion: the model decides if it is not given; `fluent` and `whisper` are for the 2.6 models.
        text_normalization: read numbers as Chinese and English do; a little slower.
        latex_read: read formulas in `$$…$$`; Chinese only.
    """

    speed: Annotated[float, Meta(ge=0.5, le=2)] | None = None
    vol: Annotated[float, Meta(gt=0, le=10)] | None = None
    pitch: Annotated[int, Meta(ge=-12, le=12)] | None = None
    emotion: Emotion | None = None
    text_normalization: bool | None = None
    latex_read: bool | None = None


class AudioSetting(Message):
    """What the audio is like, where MiniMax makes the client's format itself.

    Attributes:
        bitrate: bits a second, for mp3 alone.
        channel: channels; two only where nothing is encoded by us: mp3, flac, opus.
        force_cbr: a constant bit rate, for mp3 alone.
    """

    bitrate: Literal[32_000, 64_000, 128_000, 256_000] | None = None
    channel: Literal[1, 2] | None = None
    force_cbr: bool | None = None


class PronunciationDict(Message):
    """How words are pronounced.

    Attributes:
        tone: rules of the form `source/replacement`; they all apply together. Their number and length are our bounds.
    """

    tone: Annotated[
        tuple[Annotated[str, Meta(max_length=256, pattern=r"^[^/\x00-\x1f\x7f]+/[^\x00-\x1f\x7f]+$(?!\n)")], ...],
        Meta(min_length=1, max_length=128),
    ]


class TimbreWeight(Message):
    """One voice of a mix."""

    voice_id: Name
    weight: Annotated[int, Meta(ge=1, le=100)]


class VoiceModify(Message):
    """Effects on the voice; only for mp3, and for wav and flac at the price of waiting for the whole.

    Attributes:
        pitch: deeper to brighter.
        intensity: stronger to softer.
        timbre: fuller to crisper.
        sound_effects: one at a time.
    """

    pitch: Percent | None = None
    intensity: Percent | None = None
    timbre: Percent | None = None
    sound_effects: SoundEffect | None = None


class MiniMax(Message):
    """Wishes that only MiniMax can fulfil.

    Attributes:
        timbre_weights: voices to mix, instead of the request's voice.
        language_boost: the language that names and numbers are read in.
        continuous_sound: better prosody, and slower; for the 2.8 models.
        markup: take `<#seconds#>` in the text as a pause, and parentheses as MiniMax does: `(laughs)`, `(he2)`. Without
            it all of the text is spoken as it stands.
    """

    voice_setting: VoiceSetting | None = None
    audio_setting: AudioSetting | None = None
    pronunciation_dict: PronunciationDict | None = None
    timbre_weights: Annotated[tuple[TimbreWeight, ...], Meta(min_length=1, max_length=4)] | None = None
    language_boost: LanguageBoost | None = None
    voice_modify: VoiceModify | None = None
    continuous_sound: bool | None = None
    aigc_watermark: bool | None = None
    markup: bool = False
