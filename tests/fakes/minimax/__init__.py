"""A server that is MiniMax's T2A v2 to its clients, as far as speech over HTTP and the list of voices go."""

from fakes.minimax.app import FakeMiniMax
from fakes.minimax.behaviour import Behaviour, End, Heard

__all__ = ["Behaviour", "End", "FakeMiniMax", "Heard"]
