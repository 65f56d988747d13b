"""The failures that a person at the terminal can do something about."""

EXIT_FAILURE = 1
EXIT_NOT_RUNNING = 3
EXIT_CONFIG = 78
"""What a service exits with when its settings are wrong; starting it again would not help."""


class LocalError(Exception):
    """One clear line: what is wrong and what to do. Its text is the whole message, and it never holds a secret."""


class AlreadyRunningError(LocalError):
    """Another supervisor holds the data folder."""


class StartFailedError(LocalError):
    """A process of the stack did not become ready."""
