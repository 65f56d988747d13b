"""The embedded Odea stack and the `odea` command.

PostgreSQL and NATS come from wheels and run, like the four services, as children of one supervisor. Everything that a
stack owns lies in one data folder, and no process outlives the supervisor.
"""
