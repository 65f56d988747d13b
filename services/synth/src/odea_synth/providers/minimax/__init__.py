"""MiniMax, by its T2A v2 interface over HTTP."""
