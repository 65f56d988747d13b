"""Each step is a revision and the SQL file beside it."""
