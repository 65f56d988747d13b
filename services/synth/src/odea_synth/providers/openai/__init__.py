"""Any server that has the speech endpoint of OpenAI: OpenAI itself, Kokoro-FastAPI, Speaches, another Odea."""

from odea_synth.providers.openai.options import OPENAI_VOICES, WAYS, Flavour, OpenAIOptions
from odea_synth.providers.openai.provider import OpenAIProvider

__all__ = ["OPENAI_VOICES", "WAYS", "Flavour", "OpenAIOptions", "OpenAIProvider"]
