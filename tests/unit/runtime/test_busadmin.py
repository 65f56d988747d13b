"""Keys of the bus: made once, private, renewed on demand, and the permissions that go with them."""

import json
from pathlib import Path

import pytest

from odea_contracts.permissions import USERS, all_users
from odea_runtime.busadmin.authorization import permissions, server_config
from odea_runtime.busadmin.nkeys import BusKeysError, make_keys, new_seed, public_key, read_public_keys

# From the documentation of NATS.
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_a_seed_and_its_public_key_are_what_nats_makes_of_them() -> None:
    assert public_key(SEED) == PUBLIC
    assert public_key(f"{SEED}\n") == PUBLIC


@pytest.mark.parametrize(
    "seed",
    [
        "",
        "SU",
        SEED[:-1],
        SEED.lower(),
        SEED.replace("Y", "X"),
        PUBLIC,
        "SAANBWBUTFXLL4K2QCHIQUB4PVKZDX2QTX7OKLKDV7RAJFFPJXCU3ZRYMM",
        "ü" * 58,
    ],
)
def test_what_is_no_seed_of_a_user_is_refused_without_being_said(seed: str) -> None:
    with pytest.raises(BusKeysError) as refused:
        public_key(seed)
    assert not seed or seed not in str(refused.value)


def test_no_two_seeds_are_the_same() -> None:
    assert len({new_seed() for _ in range(100)}) == 100


def test_every_user_gets_a_private_seed_once(tmp_path: Path) -> None:
    made = make_keys(tmp_path / "a" / "keys")
    assert set(made) == {user.name for user in USERS}
    assert len(set(made.values())) == len(made)
    for path in (tmp_path / "a" / "keys").iterdir():
        assert path.stat().st_mode & 0o777 == (0o600 if path.suffix == ".seed" else 0o644)
    assert read_public_keys(tmp_path / "a" / "keys") == {name: (key,) for name, key in made.items()}
    assert make_keys(tmp_path / "a" / "keys") == {}


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    made = make_keys(tmp_path)
    (tmp_path / "synth.seed").unlink()
    assert set(make_keys(tmp_path)) == {"synth"}
    assert read_public_keys(tmp_path)["synth"][0] == made["synth"]
    assert read_public_keys(tmp_path)["keys"] == (made["keys"],)


def test_a_renewed_user_has_two_public_keys_until_one_is_taken_out(tmp_path: Path) -> None:
    made = make_keys(tmp_path)
    renewed = make_keys(tmp_path, renew="keys")
    assert read_public_keys(tmp_path)["keys"] == (made["keys"], renewed["keys"])
    assert public_key((tmp_path / "keys.seed").read_text()) == renewed["keys"]
    listed = [user["nkey"] for user in server_config(read_public_keys(tmp_path))["authorization"]["users"]]
    assert len(listed) == len(USERS) + 1


def test_a_guest_is_one_of_them_from_then_on(tmp_path: Path) -> None:
    assert "shop" in make_keys(tmp_path, guest="shop")
    assert make_keys(tmp_path, guest="shop") == {}
    assert set(make_keys(tmp_path, renew="shop")) == {"shop"}
    assert len(read_public_keys(tmp_path)["shop"]) == 2
    synth = next(user for user in all_users(["shop"]) if user.name == "synth")
    assert synth.streams_with == ("gateway", "shop")


@pytest.mark.parametrize("name", ["", "Shop", "a b", "a.b", ">", "a*", "../a", "x" * 33, "1a", "shop\n"])
def test_a_guest_needs_a_name_that_fits_a_subject(tmp_path: Path, name: str) -> None:
    with pytest.raises(BusKeysError):
        make_keys(tmp_path / "keys", guest=name)
    assert not (tmp_path / "keys").exists()


@pytest.mark.parametrize("content", [None, "", "\n", SEED, "U123", f"{PUBLIC} and more"])
def test_a_folder_that_is_not_whole_is_refused(tmp_path: Path, content: str | None) -> None:
    make_keys(tmp_path)
    (tmp_path / "quota.pub").unlink()
    if content is not None:
        (tmp_path / "quota.pub").write_text(content)
    with pytest.raises(BusKeysError, match=r"quota\.pub") as refused:
        read_public_keys(tmp_path)
    assert SEED not in str(refused.value)


@pytest.mark.parametrize("user", USERS, ids=lambda user: user.name)
def test_nobody_has_a_right_to_everything(user: object) -> None:
    granted = next(permissions(each) for each in USERS if each is user)
    assert granted["publish"]["allow"], "an empty list would mean everything"
    assert granted["subscribe"]["allow"]
    for subject in (*granted["publish"]["allow"], *granted["subscribe"]["allow"]):
        assert "*" not in subject
        below = ("_", *(f"$JS.{what}.ODEA_EVENTS." for what in ("ACK", "SNAPSHOT.ACK", "SNAPSHOT.RESTORE")))
        assert not subject.endswith(">") or subject.startswith((*below, "$JS.API.CONSUMER."))
    json.dumps(granted)
