"""Any server that has the speech endpoint of OpenAI: OpenAI itself, Kokoro-FastAPI, Speaches, another Odea."""
