"""Run as a script between the supervisor's fork and the real program: `child.py SIGNAL PARENT USER -- PROGRAM …`.

It drops root if a user is named, asks the kernel for SIGNAL when the parent dies, and becomes the program. A script
of its own, and not a `preexec_fn`, because code between fork and exec can deadlock in a process with threads. It runs
without site-packages and needs nothing but the standard library.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1
EXIT_CANNOT_RUN = 127


def main(arguments: list[str]) -> None:
    """Become the program, or exit with 127 and one line on stderr."""
    signal_number, parent, user, _, *program = arguments
    try:
        if user != "-":
            _become(*map(int, user.split(":")))
        # After the change of user, which clears the setting.
        _die_with_parent(int(signal_number))
        if os.getppid() != int(parent):
            # The parent died before the kernel was told to watch it.
            sys.exit(EXIT_CANNOT_RUN)
        os.execv(program[0], program)  # noqa: S606 - no shell is wanted
    except OSError as error:
        print(f"cannot run {program[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(EXIT_CANNOT_RUN)


def _become(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def _die_with_parent(signal_number: int) -> None:
    if sys.platform == "linux" and ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal_number) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    main(sys.argv[1:])
