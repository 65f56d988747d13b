"""A key's text: what is written is read back, and anything else is refused, cheaply and without a word (P6, P7)."""

import hashlib
import re
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from odea_contracts import keytext
from odea_contracts.keytext import BASE62, KEY_LENGTH, SECRET_BYTES, encode_secret, format_key, parse_key
from odea_runtime import ids

PUBLIC_ID = "Ab3dEf6hIj9l"
SECRET = encode_secret(bytes(range(64)))
KEY = format_key(PUBLIC_ID, SECRET)

# How long one example takes says nothing here, and a busy machine would make it a fault.
unhurried = settings(deadline=None)
public_ids = st.text(BASE62, min_size=12, max_size=12)
secrets = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)


def number(text: str) -> int:
    """Base62 read digit by digit, the other way round than the code writes it."""
    return sum(BASE62.index(digit) * 62**place for place, digit in enumerate(reversed(text)))


def test_keys_that_were_handed_out_stay_readable() -> None:
    text = (
        "odea_sk_Ab3dEf6hIj9l_"
        "003Vqjw7cu3hfvkU3qiqaK9rbeC4hxTD9e6FyJqrQy5B0Gcb0VZXHtbKLaMqUiIawolD691iK8Ufvf9Ncn7q8d"
        "_1fc0kl"
    )
    assert text == KEY
    assert number("1fc0kl") == zlib.crc32(text.removesuffix("_1fc0kl").encode())
    parsed = parse_key(text)
    assert parsed is not None
    assert parsed.public_id == PUBLIC_ID
    assert parsed.digest == hashlib.sha512(SECRET.encode()).hexdigest()


@unhurried
@given(public_ids, secrets)
def test_what_is_written_is_read_back(public_id: str, secret: bytes) -> None:
    encoded = encode_secret(secret)
    text = format_key(public_id, encoded)
    assert len(text) == KEY_LENGTH
    parsed = parse_key(text)
    assert parsed is not None
    assert parsed.public_id == public_id
    assert parsed.digest == hashlib.sha512(encoded.encode()).hexdigest()


@unhurried
@given(secrets)
def test_all_512_bits_are_in_the_text(secret: bytes) -> None:
    encoded = encode_secret(secret)
    assert len(encoded) == 86
    assert number(encoded) == int.from_bytes(secret, "big")


@pytest.mark.parametrize("secret", [bytes(64), b"\xff" * 64, bytes(63) + b"\x01"])
def test_the_extremes_have_86_characters_too(secret: bytes) -> None:
    assert re.fullmatch(r"[0-9A-Za-z]{86}", encode_secret(secret))


@pytest.mark.parametrize("length", [0, 63, 65])
def test_a_secret_has_64_bytes(length: int) -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        encode_secret(bytes(length))


@unhurried
@given(st.integers(0, KEY_LENGTH - 1), st.sampled_from(BASE62 + "_-. "))
def test_one_wrong_character_is_found_without_asking_anybody(place: int, character: str) -> None:
    text = KEY[:place] + character + KEY[place + 1 :]
    assert (parse_key(text) is None) == (text != KEY)


@unhurried
@given(st.integers(0, KEY_LENGTH - 2))
def test_two_swapped_characters_are_found(place: int) -> None:
    text = KEY[:place] + KEY[place + 1] + KEY[place] + KEY[place + 2 :]
    assert (parse_key(text) is None) == (text != KEY)


@unhurried
@given(st.text(max_size=2 * KEY_LENGTH) | st.text(min_size=KEY_LENGTH, max_size=KEY_LENGTH))
def test_no_text_makes_the_parser_fail(text: str) -> None:
    assert parse_key(text) is None


CYRILLIC_A, FULLWIDTH_ZERO, ARABIC_ZERO, KELVIN, LONE_SURROGATE = "\u0430", "\uff10", "\u0660", "\u212a", "\ud83d"

MALFORMED = {
    "nothing": "",
    "blank": " " * KEY_LENGTH,
    "the prefix alone": "odea_sk_",
    "one character less": KEY[:-1],
    "one character more": KEY + "0",
    "another prefix": KEY.replace("odea_sk_", "odea_pk_"),
    "capital prefix": KEY.replace("odea", "ODEA"),
    "an OpenAI key": "sk-" + "a" * (KEY_LENGTH - 3),
    "hyphens for underscores": KEY.replace("_", "-"),
    "base64 in the secret": KEY.replace(SECRET, SECRET[:-2] + "+/"),
    "underscore in the secret": KEY.replace(SECRET, SECRET[:-1] + "_"),
    "shifted underscores": format_key("0" * 12, SECRET).replace("_" + SECRET[:2], SECRET[0] + "_" + SECRET[1]),
    "newline behind": KEY + "\n",
    "newline as the last": KEY[:-1] + "\n",
    "newline in front": "\n" + KEY,
    "carriage return in the middle": KEY[:40] + "\r" + KEY[41:],
    "NUL in the middle": KEY[:40] + "\0" + KEY[41:],
    "blank in front": " " + KEY,
    "bearer in front": "Bearer " + KEY,
    "cyrillic a": KEY.replace("a_sk", CYRILLIC_A + "_sk"),
    "full-width digit": KEY.replace("003V", FULLWIDTH_ZERO + "03V"),
    "arabic digit": KEY.replace("003V", ARABIC_ZERO + "03V"),
    "kelvin sign": KEY.replace("K9", KELVIN + "9"),
    "lone surrogate": KEY[:40] + LONE_SURROGATE + KEY[41:],
    "combining accent": KEY[:40] + "\u0301" + KEY[41:],
    "bidi override": KEY[:40] + "\u202e" + KEY[41:],
    "twice": KEY + KEY,
    "a megabyte of keys": KEY * 9_000,
    "a megabyte of digits": "odea_sk_" + "0" * 1_000_000,
}


@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_texts_are_no_keys(text: str) -> None:
    assert text != KEY
    assert parse_key(text) is None


@pytest.mark.parametrize("text", ["", KEY[:-1], KEY + "0", "0" * 1_000_000])
def test_a_wrong_length_is_refused_before_anything_is_read(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """P7: a megabyte costs what one character costs."""
    monkeypatch.setattr(keytext, "_SHAPE", None)
    assert parse_key(text) is None


def test_the_digest_stays_out_of_the_repr() -> None:
    """P6: the digest is as good as the secret to whoever has the bus."""
    parsed = parse_key(KEY)
    assert repr(parsed) == f"ParsedKey(public_id='{PUBLIC_ID}')"


@pytest.mark.parametrize(
    ("public_id", "secret"),
    [("short", SECRET), (PUBLIC_ID, SECRET[:-1]), (PUBLIC_ID, SECRET[:-1] + "!"), (PUBLIC_ID + "_", SECRET[1:])],
)
def test_a_bad_part_is_refused_without_repeating_it(public_id: str, secret: str) -> None:
    with pytest.raises(ValueError, match="base62") as caught:
        format_key(public_id, secret)
    assert secret not in str(caught.value)


def test_one_alphabet() -> None:
    assert BASE62 == ids.BASE62
