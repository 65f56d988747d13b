"""The dev overlay's logins of the bus: `python -m support.devbus` writes `users.conf` for the seeds in `secrets.yaml`.

With `--renew` it makes new seeds first.
"""

import re
import sys
from typing import Final

import msgspec

from odea_contracts.permissions import USERS
from odea_runtime.busadmin.authorization import server_config
from odea_runtime.busadmin.nkeys import new_seed, public_key
from support.lock import ROOT

FOLDER: Final = ROOT / "deploy/k8s/overlays/dev"
_SEED: Final = re.compile(r"(?<=ODEA_NATS_SEED: )\S+")


def users_conf() -> str:
    """What the server is told of the users whose seeds are in the overlay."""
    # Not rendered: rendering reads the very file that this is for.
    seeds = dict(re.findall(r"name: odea-(\w+)\nstringData:\n  ODEA_NATS_SEED: (\S+)", _secrets()))
    config = server_config({user.name: [public_key(seeds[user.name])] for user in USERS})
    return msgspec.json.format(msgspec.json.encode(config)).decode() + "\n"


def _secrets() -> str:
    return (FOLDER / "secrets.yaml").read_text(encoding="utf-8")


def main() -> None:
    """Write the file, and new seeds if asked to."""
    if "--renew" in sys.argv:
        (FOLDER / "secrets.yaml").write_text(_SEED.sub(lambda _: new_seed(), _secrets()), encoding="utf-8")
    (FOLDER / "users.conf").write_text(users_conf(), encoding="utf-8")


if __name__ == "__main__":
    main()
