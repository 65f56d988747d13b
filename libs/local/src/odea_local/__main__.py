"""`python -m odea_local` is the `odea` command."""

from odea_local.cli import main

if __name__ == "__main__":
    main()
