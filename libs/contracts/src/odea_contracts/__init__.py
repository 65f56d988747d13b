"""The Odea bus in types: every subject, message and error code, and nothing that runs.

Bodies are JSON. Receivers ignore fields that they do not know; new fields get defaults; anything else is a new version
of the subject. Money is counted in units (billed characters), times are Unix milliseconds by the clock of the database.
"""
