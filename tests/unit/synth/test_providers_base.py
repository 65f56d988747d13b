"""The values between providers and the service: what they say about themselves (P6)."""

import traceback

from odea_synth.providers.base import Chunk, ErrorClass, ProviderError, Utterance


def test_what_is_spoken_shows_in_no_repr() -> None:
    utterance = Utterance(text="my diary", voice="joe", model="m", instructions="like my boss")
    assert "diary" not in repr(utterance)
    assert "boss" not in repr(utterance)
    assert "secret" not in repr(Chunk(audio=b"secret", billed_units=1))


def test_the_detail_of_an_error_is_in_its_traceback_and_not_in_its_text() -> None:
    error = ProviderError(ErrorClass.ACCOUNT, "Not available.", detail="the balance is 0", retry_after_s=3)
    assert str(error) == error.message == "Not available."
    assert "the balance is 0" in "".join(traceback.format_exception(error))
    assert (error.error_class, error.retry_after_s) == ("account", 3)
