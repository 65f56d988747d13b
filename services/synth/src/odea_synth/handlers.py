"""Endpoints of the synth service: message in, one call, message or stream out."""

from faststream.nats import NatsRouter

from odea_contracts import requests, subjects, synth
from odea_contracts.errors import ErrorCode, Failure
from odea_runtime.serving import serve
from odea_runtime.streams import serve_streams
from odea_runtime.tasks import Tasks
from odea_synth.request_log import RequestLog
from odea_synth.routing.switchboard import Switchboard
from odea_synth.speaking import Speaker


class Handlers:
    """Speech goes to the speaker; lists come from the catalogue, what was spoken from the request log."""

    def __init__(self, speaker: Speaker, switchboard: Switchboard, log: RequestLog) -> None:
        self._speaker = speaker
        self._switchboard = switchboard
        self._log = log

    def register(self, router: NatsRouter, tasks: Tasks) -> None:
        """Serve every endpoint of the service."""
        serve_streams(
            router,
            tasks,
            subject=subjects.SYNTH_SPEAK,
            queue=subjects.SYNTH,
            request=synth.Speak,
            handler=self._speaker.speak,
        )
        serve(router, tasks, synth.VOICES, self.voices)
        serve(router, tasks, synth.MODELS, self.models)
        serve(router, tasks, requests.REQUESTS_LIST, self.requests_list, unavailable=ErrorCode.SYNTH_UNAVAILABLE)

    async def voices(self, message: synth.Voices) -> synth.VoicesReply:
        """The voices that can be named."""
        voices = self._switchboard.catalogue.list_voices(message.model)
        return voices if isinstance(voices, Failure) else synth.VoiceList(voices=voices)

    async def models(self, message: synth.Models) -> synth.ModelsReply:  # noqa: ARG002 - the message is empty
        """The models that can be named."""
        return synth.ModelList(models=self._switchboard.catalogue.list_models())

    async def requests_list(self, message: requests.RequestsList) -> requests.RequestsReply:
        """A page of the request log."""
        return await self._log.page(message)
