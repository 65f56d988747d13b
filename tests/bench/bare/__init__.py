"""The bare chain: the same hops as Odea's and nothing else, so that figures are ratios and not boasts.

Client, HTTP (Litestar on Granian, one worker), NATS (nats-py), a ledger that writes a hold and its settlement in
batches with fsync (asyncpg), the upstream (httpx with the aiohttp transport), and the answer back in pieces, all on
uvloop. No keys, no limits, no checks, no retries, no flow control, no digest, no log, no metrics, no events.
"""
