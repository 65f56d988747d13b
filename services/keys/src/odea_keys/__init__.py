"""Tenants and API keys. Owns the schema `keys`.

1. A secret is stored only as HMAC-SHA-512(pepper, SHA-512(secret)); its text leaves once, in the answer that made it.
2. Every refusal of a well-formed key costs the same work, whatever its reason.
3. A change, its audit row and its events are one transaction; whether a key is good is judged by the database's clock.
4. A key has exactly one secret without a limit of its own; rotation limits all others to its grace.
5. Trouble with the storage is answered as trouble, never as a refusal.
"""
