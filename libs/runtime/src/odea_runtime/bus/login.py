"""Who a process is on the bus, and how its connection is encrypted."""

import ssl

from faststream.nats.security import NatsNKey, NatsSecurity

from odea_runtime.settings import Settings


def security(settings: Settings) -> NatsSecurity | None:
    """The NKEY and the TLS that the settings ask for; `None` for neither."""
    ca, own = settings.nats_tls_ca_file, settings.nats_tls_cert_file
    encrypted = ca or own or "tls://" in settings.nats_url.get_secret_value()
    context = ssl.create_default_context(cafile=ca) if encrypted else None
    if context and own:
        context.load_cert_chain(own, settings.nats_tls_key_file)
    # First the handshake, then the first word: otherwise it is the word of an unknown server that decides whether there
    # is a handshake at all.
    if settings.nats_seed:
        seed = settings.nats_seed.get_secret_value()
        return NatsNKey.from_seed(seed, ssl_context=context, tls_handshake_first=context is not None)
    return NatsSecurity(ssl_context=context, tls_handshake_first=True) if context else None
