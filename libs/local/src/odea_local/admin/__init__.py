"""The operator's verbs: `odea tenants|keys|plans|accounts|usage|audit`, spoken over HTTP to the admin API."""
