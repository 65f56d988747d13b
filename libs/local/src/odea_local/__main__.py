"""`python -m odea_local` is the `odea` command."""

import os
import signal
import sys


def stop_at_once(*_: object) -> None:
    """Answer Ctrl-C while the modules load: nothing runs yet that would have to be ended."""
    sys.stderr.write("odea: stopped.\n")
    sys.stderr.flush()
    os._exit(128 + signal.SIGINT)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, stop_at_once)
    from odea_local.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    main()
