"""What schemathesis is told besides the document: whom to spare, and an account that is there."""

import os
from typing import Any
from zlib import crc32

import schemathesis
from schemathesis import Case, HookContext

SPARED = "ODEA_FUZZ_SPARED"
"""The variable with the ids of the key that is used and of its tenant, separated by commas."""
ACCOUNT = "ODEA_FUZZ_ACCOUNT"
"""The variable with the id of an account that anything may be done to."""


@schemathesis.hook
def before_call(_context: HookContext, case: Case[Any], _kwargs: dict[str, object]) -> None:
    """Every other account is one that is there; changes of what is spared go to something that is not."""
    asked = case.path_parameters
    if "account_id" in asked and crc32(str(asked["account_id"]).encode("utf-8", "replace")) % 2:
        asked["account_id"] = os.environ[ACCOUNT]
    if case.method != "GET":
        spared = set(os.environ[SPARED].split(","))
        for name, value in asked.items():
            if value in spared:
                asked[name] = f"{value}_spared"
