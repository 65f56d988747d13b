"""The whole HTTP interface against its own document, with requests that a machine makes up."""
