"""Servers that stand in for upstreams that cost money. Strict: what the real one refuses, they refuse.

Each is held to the references by tests of its own, counts what it billed, and can break in every way that the real one
does. `python -m fakes.minimax` and `python -m fakes.openai` run them as processes of their own, for benches.
"""
