"""MiniMax, by its T2A v2 interface over HTTP."""

from odea_synth.providers.minimax.options import REGIONS, MiniMaxOptions
from odea_synth.providers.minimax.provider import MiniMaxProvider

__all__ = ["REGIONS", "MiniMaxOptions", "MiniMaxProvider"]
