"""A server with OpenAI's speech endpoint, in the ways of OpenAI itself or of one of those that are compatible."""

from fakes.openai.app import KEY, FakeOpenAI
from fakes.openai.behaviour import Behaviour, End, Heard, Kind

__all__ = ["KEY", "Behaviour", "End", "FakeOpenAI", "Heard", "Kind"]
