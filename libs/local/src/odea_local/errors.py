"""The failures that a person at the terminal can do something about."""

import errno

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


def explain(error: OSError) -> str:
    """What the system refused, in one line that says what to do."""
    foreign = "Does it belong to another user? --data chooses another folder."
    advice = {
        errno.ENOSPC: "Make room and try again.",
        errno.EDQUOT: "Make room and try again.",
        errno.EROFS: "--data chooses a folder that can be written.",
        errno.EACCES: foreign,
        errno.EPERM: foreign,
    }.get(error.errno or 0, "")
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}. {advice}".rstrip()
