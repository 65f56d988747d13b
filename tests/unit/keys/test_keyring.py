"""When a key is good, and that every refusal costs the same work (P5, P6)."""

import hashlib
import hmac
import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pytest

from odea_contracts.keys import Principal, Refusal, Refused, Scope
from odea_contracts.keytext import parse_key
from odea_keys import keyring
from odea_keys.keyring import Keyring, NewSecret, StoredSecret, UnknownPepperError, canonical_cidrs, ordered_scopes
from odea_keys.peppers import Pepper

OLD = Pepper(pepper_id="p1", value=b"\x5e" * 32)
NEW = Pepper(pepper_id="p2", value=b"\xa7" * 32)
NOW_MS = 1_800_000_000_000


def digest_of(secret: NewSecret) -> str:
    parsed = parse_key(secret.text)
    assert parsed is not None
    return parsed.digest


def stored(secret: NewSecret) -> StoredSecret:
    return StoredSecret(
        known=True,
        tenant_id="ten_1",
        key_id="key_1",
        scopes=(Scope.SPEECH, Scope.ADMIN),
        own_account=False,
        allowed_cidrs=(),
        pepper_id=secret.pepper_id,
        hash=secret.hash,
        expires_at_ms=None,
        revoked=False,
        suspended=False,
        now_ms=NOW_MS,
    )


RING = Keyring((OLD,))
SECRET = RING.new_secret()
DIGEST = digest_of(SECRET)
STORED = stored(SECRET)
UNKNOWN = StoredSecret(
    known=False,
    tenant_id="",
    key_id="",
    scopes=(),
    own_account=False,
    allowed_cidrs=(),
    pepper_id="",
    hash=b"",
    expires_at_ms=None,
    revoked=False,
    suspended=False,
    now_ms=NOW_MS,
)
WRONG = hashlib.sha512(b"guess").hexdigest()

CLASSES = {
    "good": (STORED, DIGEST),
    "unknown": (UNKNOWN, DIGEST),
    "wrong secret": (STORED, WRONG),
    "revoked": (replace(STORED, revoked=True), DIGEST),
    "expired": (replace(STORED, expires_at_ms=NOW_MS), DIGEST),
    "suspended": (replace(STORED, suspended=True), DIGEST),
}


def test_a_good_key_is_told_with_all_that_it_may_do() -> None:
    assert RING.judge(STORED, DIGEST) == Principal(
        tenant_id="ten_1", key_id="key_1", scopes=(Scope.SPEECH, Scope.ADMIN), accounts=("ten_1",)
    )


def test_a_key_with_an_account_of_its_own_is_charged_on_both() -> None:
    reply = RING.judge(replace(STORED, own_account=True, expires_at_ms=NOW_MS + 1), DIGEST)
    assert isinstance(reply, Principal)
    assert reply.accounts == ("ten_1", "key_1")
    assert reply.expires_at_ms == NOW_MS + 1


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"revoked": True}, Refusal.REVOKED),
        ({"expires_at_ms": NOW_MS}, Refusal.EXPIRED),
        ({"expires_at_ms": NOW_MS - 1}, Refusal.EXPIRED),
        ({"suspended": True}, Refusal.SUSPENDED),
        ({"suspended": True, "expires_at_ms": NOW_MS}, Refusal.EXPIRED),
        ({"suspended": True, "expires_at_ms": NOW_MS, "revoked": True}, Refusal.REVOKED),
    ],
)
def test_a_key_that_is_not_good_is_refused_with_the_first_reason(change: dict[str, int], reason: Refusal) -> None:
    assert RING.judge(replace(STORED, **change), DIGEST) == Refused(reason=reason)


@pytest.mark.parametrize("change", [{}, {"revoked": True}, {"expires_at_ms": 0}, {"suspended": True}])
def test_who_lacks_the_secret_learns_nothing_of_the_key(change: dict[str, int]) -> None:
    assert RING.judge(replace(STORED, **change), WRONG) == Refused(reason=Refusal.WRONG_SECRET)


def test_nobody_has_the_decoy() -> None:
    assert RING.judge(UNKNOWN, DIGEST) == Refused(reason=Refusal.UNKNOWN)
    assert RING.judge(UNKNOWN, hashlib.sha512(b"").hexdigest()) == Refused(reason=Refusal.UNKNOWN)


def test_every_class_costs_one_hash_and_one_comparison_of_equal_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    """What an attacker can time does not depend on why he is refused."""
    work: Counter[str] = Counter()

    def digest(key: bytes, message: bytes, algorithm: str) -> bytes:
        work[f"hash {len(key)} {len(message)} {algorithm}"] += 1
        return hmac.digest(key, message, algorithm)

    def compare_digest(left: bytes, right: bytes) -> bool:
        work[f"compare {len(left)} {len(right)}"] += 1
        return hmac.compare_digest(left, right)

    monkeypatch.setattr(keyring, "hmac", SimpleNamespace(digest=digest, compare_digest=compare_digest))
    done: dict[str, Counter[str]] = {}
    for name, (candidate, given) in CLASSES.items():
        work.clear()
        RING.judge(candidate, given)
        done[name] = work.copy()
    assert all(each == {"hash 32 64 sha512": 1, "compare 64 64": 1} for each in done.values()), done


def test_what_is_stored_needs_the_pepper_and_the_secret() -> None:
    secret = RING.new_secret()
    written = secret.text.split("_")[3]
    inner = hashlib.sha512(written.encode()).digest()
    assert secret.hash == hmac.new(OLD.value, inner, hashlib.sha512).digest()
    assert secret.text.split("_")[2] == secret.public_id


def test_every_secret_is_another() -> None:
    made = [RING.new_secret() for _ in range(200)]
    assert len({secret.text.split("_")[3] for secret in made}) == len({secret.public_id for secret in made}) == 200


def test_a_secret_stays_out_of_the_repr() -> None:
    assert repr(SECRET) == f"NewSecret(public_id='{SECRET.public_id}', pepper_id='p1')"
    assert "hash" not in repr(STORED)


def test_the_first_pepper_hashes_and_all_verify() -> None:
    rotated = Keyring((NEW, OLD))
    secret = rotated.new_secret()
    assert secret.pepper_id == "p2"
    assert isinstance(rotated.judge(stored(secret), digest_of(secret)), Principal)
    assert isinstance(rotated.judge(STORED, DIGEST), Principal)


def test_a_hash_counts_only_with_its_own_pepper() -> None:
    rotated = Keyring((NEW, OLD))
    assert rotated.judge(replace(STORED, pepper_id="p2"), DIGEST) == Refused(reason=Refusal.WRONG_SECRET)


def test_a_missing_pepper_is_trouble_and_no_refusal() -> None:
    """P9: the caller's key may be good."""
    with pytest.raises(UnknownPepperError, match="p1"):
        Keyring((NEW,)).judge(STORED, DIGEST)


def test_scopes_are_kept_once_and_in_order() -> None:
    assert ordered_scopes([Scope.ADMIN, Scope.SPEECH, Scope.ADMIN]) == (Scope.SPEECH, Scope.ADMIN)


def test_a_derived_secret_can_be_made_again_from_all_three_and_from_nothing_less() -> None:
    rotated = Keyring((NEW, OLD))
    secret = rotated.derived_secret("order-7")
    salt = secret.salt
    assert len(salt) == 64
    assert rotated.derived_secret("order-7").salt != salt
    text = Keyring((OLD, NEW)).derive_again(secret.public_id, secret.pepper_id, salt, "order-7")
    assert text == secret.text
    parsed = parse_key(text)
    assert parsed is not None
    assert isinstance(rotated.judge(stored(secret), parsed.digest), Principal)
    others = (
        rotated.derive_again(secret.public_id, OLD.pepper_id, salt, "order-7"),
        rotated.derive_again(secret.public_id, secret.pepper_id, salt[::-1], "order-7"),
        rotated.derive_again(secret.public_id, secret.pepper_id, salt, "order-8"),
    )
    assert len({text, *others}) == 4
    with pytest.raises(UnknownPepperError):
        Keyring((OLD,)).derive_again(secret.public_id, secret.pepper_id, salt, "order-7")


def test_networks_have_one_form() -> None:
    given = ("192.0.2.0/24", "192.0.2.0/24", "198.51.100.7", "2001:DB8:0::/32")
    assert canonical_cidrs(given) == ("192.0.2.0/24", "198.51.100.7/32", "2001:db8::/32")
    assert canonical_cidrs(()) == ()
    for bad in ("192.0.2.1/24", "::ffff:192.0.2.0/120", "192.0.2.0/33", "x"):
        with pytest.raises(ValueError, match=re.escape(bad.partition("/")[0])):
            canonical_cidrs((bad,))
