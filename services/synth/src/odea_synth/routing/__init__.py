"""Routing: which providers there are, which of them speaks a model, and who may ask one of them when."""
