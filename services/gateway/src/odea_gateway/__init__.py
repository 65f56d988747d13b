"""The HTTP edge: who may come in, what a request must look like, and audio from the bus to the client.

It keeps no state of its own. What it promises:

1. Status 200 is sent only with the first audio in hand, and a body that is not whole never looks whole (P4).
2. A revoked key is out within a second: the cache of principals follows `keys.changed` and forgets everything when the
   bus was lost (P5).
3. Nothing of the inside leaves: every failure is a code and a text from one table (P6, P7).
4. A service or a bus that is down is named with 503 within two seconds (P9).
"""
