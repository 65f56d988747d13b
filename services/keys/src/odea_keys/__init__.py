"""Odea."""
