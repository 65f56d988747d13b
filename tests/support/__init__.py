"""What the tests share: servers, databases and small tools. No test stands here."""
