"""Pipecat's service, with every voice name that it lets through."""

import asyncio
import json
import os

from pipecat.clocks.system_clock import SystemClock
from pipecat.frames.frames import ErrorFrame, StartFrame, TTSAudioRawFrame
from pipecat.processors.frame_processor import FrameProcessorSetup
from pipecat.services.openai.tts import VALID_VOICES, OpenAITTSService
from pipecat.utils.asyncio.task_manager import TaskManager, TaskManagerParams


async def seconds(voice: str, text: str) -> float:
    service = OpenAITTSService(
        api_key=os.environ["ODEA_KEY"],
        base_url=os.environ["ODEA_URL"],
        settings=OpenAITTSService.Settings(voice=voice, model="gpt-4o-mini-tts"),
    )
    tasks = TaskManager()
    tasks.setup(TaskManagerParams(loop=asyncio.get_running_loop()))
    await service.setup(FrameProcessorSetup(clock=SystemClock(), task_manager=tasks, pipeline_worker=None))
    await service.start(StartFrame(audio_out_sample_rate=24000))
    size = 0
    async for frame in service.run_tts(text, "context"):
        assert not isinstance(frame, ErrorFrame), frame.error
        if isinstance(frame, TTSAudioRawFrame):
            assert (frame.sample_rate, frame.num_channels) == (24000, 1)
            size += len(frame.audio)
    await service.cleanup()
    return size / 48000


async def main() -> None:
    for voice in VALID_VOICES:
        assert await seconds(voice, "Short.") > 0.2, voice
    print(json.dumps({"seconds": [await seconds("alloy", os.environ["ODEA_TEXT"])]}))


asyncio.run(main())
