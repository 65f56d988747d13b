"""The quota service: plans, accounts, holds and the record of what was charged. It owns the schema `quota`.

Invariants, each stated once in `ledger` and once as a constraint of the schema:

1. used + held never exceeds an account's limit (P1).
2. A hold ends once: settled, released or expired. A settlement never exceeds its hold.
3. An account's `held` and `in_flight` are the sum and the count of its open holds; its `used` is the sum of what was
   settled in its window.
"""
