"""The steps that the schema `keys` has taken, in `versions`."""
