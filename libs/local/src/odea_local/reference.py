"""Pages of the documentation that are made from the code, so that they can't drift: settings and error codes."""

from collections.abc import Iterator
from typing import Final, get_args

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from odea_contracts.errors import ERRORS, Retry
from odea_gateway.settings import GatewaySettings
from odea_keys.settings import KeysSettings
from odea_quota.settings import QuotaSettings
from odea_runtime.settings import PREFIX, DatabaseSettings, Settings
from odea_runtime.streams import StreamSettings
from odea_synth.settings import SynthSettings

_SHARED: Final[tuple[tuple[str, type[Settings], str], ...]] = (
    ("Every service", Settings, ""),
    ("Services with a database", DatabaseSettings, "keys, quota and synth"),
    ("Services with audio streams", StreamSettings, "gateway and synth"),
)
_OWN: Final[tuple[tuple[str, type[Settings], str], ...]] = (
    ("gateway", GatewaySettings, ""),
    ("keys", KeysSettings, ""),
    ("quota", QuotaSettings, ""),
    ("synth", SynthSettings, ""),
)
_ADVICE: Final = {
    Retry.NEVER: "the same request fails again",
    Retry.USELESS: "waiting alone does not help (`x-should-retry: false`)",
    Retry.LATER: "after `Retry-After`",
}


def configuration_page() -> str:
    """`docs/configuration.md`: every setting of every service."""
    lines = [
        "# Configuration",
        "",
        "Services read their settings from the environment, once, when they start. Each checks all of them, names",
        "every fault and exits with 78 if there is one. `ODEA_<NAME>_FILE` names a file that holds the value instead,",
        "so that mounted secrets stay out of the environment. Made from the code by `just docs`.",
    ]
    seen: set[str] = set()
    for title, model, note in (*_SHARED, *_OWN):
        rows = list(_setting_rows(model, seen))
        lines += ["", f"## {title}", ""] + ([f"That is {note}.", ""] if note else [])
        lines += ["| Variable | Default | |", "|---|---|---|", *rows]
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    """`docs/errors.md`: every error code."""
    lines = [
        "# Error codes",
        "",
        "The closed list that every answer's `code` comes from, on HTTP and on the bus. Made from the code by",
        "`just docs`.",
        "",
        "| Code | HTTP | Type | Text | Again? |",
        "|---|---|---|---|---|",
    ]
    for code, spec in ERRORS.items():
        lines.append(f"| `{code}` | {spec.status} | `{spec.type}` | {spec.text} | {_ADVICE[spec.retry]} |")
    return "\n".join(lines) + "\n"


def _setting_rows(model: type[Settings], seen: set[str]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        if name not in seen:
            seen.add(name)
            text = " ".join((field.description or "").split()).replace("|", "\\|")
            yield f"| `{PREFIX}{name.upper()}` | {_default(field)} | {text} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        secret = field.annotation is SecretStr or SecretStr in get_args(field.annotation)
        return "required, secret" if secret else "required"
    return f"`{field.default}`"
