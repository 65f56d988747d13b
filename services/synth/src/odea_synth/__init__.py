"""The synth service: providers of speech, the way of a text to audio, the log of requests. It owns the schema `synth`.

Every speech is metered here, whoever asks for it: units are held before a provider is called and settled before the
stream's tail is sent (P2).
"""
