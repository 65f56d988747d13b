"""What every Odea service stands on: bus, audio stream, database, outbox, logs, metrics, settings and health."""
