"""`odea-keys serve|migrate|await-schema|bootstrap`: the only reader of the environment."""

from odea_keys.app import run_bootstrap, run_migrations, serve, wait_for_schema
from odea_keys.settings import KeysSettings
from odea_runtime.service import main


def run() -> None:
    """The console script."""
    main(
        "keys",
        KeysSettings,
        {"serve": serve, "migrate": run_migrations, "await-schema": wait_for_schema, "bootstrap": run_bootstrap},
    )


if __name__ == "__main__":
    run()
