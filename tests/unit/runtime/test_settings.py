"""Settings are read once, whole, and never tell a secret (P6)."""

from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from odea_runtime.settings import Address, DatabaseSettings, Settings, SettingsError, load
from odea_runtime.streams import StreamSettings

SECRET = "hunter2-very-secret"
NATS = {"ODEA_NATS_URL": f"nats://odea:{SECRET}@bus:4222"}
GOOD = NATS | {"ODEA_DATABASE_URL": f"postgresql://odea_keys:{SECRET}@db/odea"}


def faults_of(environ: dict[str, str], model: type[Settings] = DatabaseSettings) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(model, environ)
    return str(caught.value).splitlines()


def test_defaults_need_only_what_has_no_default() -> None:
    settings = load(DatabaseSettings, GOOD)
    assert settings.nats_url.get_secret_value() == GOOD["ODEA_NATS_URL"]
    assert settings.ops_address == Address("127.0.0.1", 9090)
    assert settings.log_format == "json"


def test_every_value_is_taken_from_its_variable() -> None:
    environ = GOOD | {
        "ODEA_OPS_ADDRESS": "0.0.0.0:9191",
        "ODEA_LOG_FORMAT": "pretty",
        "ODEA_LOG_LEVEL": "debug",
        "ODEA_TASKS_MAX": "7",
        "ODEA_TRACE_RATIO": "0.5",
        "ODEA_TRACE_QUEUE_MAX": "9",
        "ODEA_CALL_TIMEOUT_S": "0.25",
        "ODEA_BUNDLE_MAX": "11",
        "ODEA_DRAIN_S": "3",
        "ODEA_DATABASE_POOL_MAX": "5",
        "ODEA_DATABASE_TIMEOUT_S": "0.5",
    }
    settings = load(DatabaseSettings, environ)
    secrets = {"nats_url", "database_url"}
    assert settings.model_dump(exclude=secrets) == {
        "ops_address": ("0.0.0.0", 9191),
        "log_format": "pretty",
        "log_level": "debug",
        "tasks_max": 7,
        "call_timeout_s": 0.25,
        "bundle_max": 11,
        "drain_s": 3.0,
        "database_pool_max": 5,
        "database_timeout_s": 0.5,
        "otlp_endpoint": None,
        "otlp_headers": None,
        "trace_ratio": 0.5,
        "trace_queue_max": 9,
        "nats_seed": None,
        "sentry_dsn": None,
        "nats_tls_ca_file": None,
        "nats_tls_cert_file": None,
        "nats_tls_key_file": None,
    }


SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"


def test_a_seed_is_a_secret() -> None:
    settings = load(Settings, NATS | {"ODEA_NATS_SEED": SEED})
    assert settings.nats_seed
    assert settings.nats_seed.get_secret_value() == SEED
    assert SEED not in repr(settings) + str(settings.model_dump()) + settings.model_dump_json()
    (fault,) = faults_of(NATS | {"ODEA_NATS_SEED": f"{SEED}X"}, Settings)
    assert fault.startswith("ODEA_NATS_SEED: ")
    assert SEED not in fault


def test_a_secret_may_lie_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "seed"
    path.write_text(f"{SEED}\n")
    settings = load(Settings, NATS | {"ODEA_NATS_SEED_FILE": str(path), "ODEA_UNKNOWN_FILE": "/nowhere"})
    assert settings.nats_seed
    assert settings.nats_seed.get_secret_value() == SEED
    environ = {"ODEA_NATS_URL_FILE": str(path), "ODEA_NATS_URL": "nats://bus", "ODEA_NATS_SEED_FILE": f"/x/{SECRET}"}
    assert faults_of(environ, Settings) == [
        "ODEA_NATS_URL: given twice, by itself and by ODEA_NATS_URL_FILE",
        "ODEA_NATS_SEED: its file can't be read: No such file or directory",
    ]
    path.write_bytes(b"\xff")
    assert faults_of({"ODEA_NATS_URL_FILE": str(path)}, Settings) == [
        "ODEA_NATS_URL: its file can't be read: not UTF-8"
    ]


def test_a_certificate_needs_its_key_and_both_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "one.pem"
    path.write_text("")
    for name in ("CERT", "KEY"):
        (fault,) = faults_of(NATS | {f"ODEA_NATS_TLS_{name}_FILE": str(path)}, Settings)
        assert fault == "ODEA_NATS_TLS_KEY_FILE: Value error, certificate and key must be given together"
    (fault,) = faults_of(NATS | {"ODEA_NATS_TLS_CA_FILE": str(tmp_path / SECRET)}, Settings)
    assert fault.startswith("ODEA_NATS_TLS_CA_FILE: ")
    assert SECRET not in fault


def test_all_faults_are_named_at_once() -> None:
    environ = {
        "ODEA_OPS_ADDRESS": "nowhere",
        "ODEA_LOG_FORMAT": "xml",
        "ODEA_TASKS_MAX": "0",
        "ODEA_CALL_TIMEOUT_S": "soon",
        "ODEA_DATABASE_POOL_MAX": "1000",
    }
    named = {fault.partition(":")[0] for fault in faults_of(environ)}
    assert named == {
        "ODEA_NATS_URL",
        "ODEA_OPS_ADDRESS",
        "ODEA_LOG_FORMAT",
        "ODEA_TASKS_MAX",
        "ODEA_CALL_TIMEOUT_S",
        "ODEA_DATABASE_URL",
        "ODEA_DATABASE_POOL_MAX",
    }


def test_a_fault_says_what_would_be_right_and_repeats_no_value() -> None:
    """P6: what was meant for one variable may have landed in another."""
    environ = GOOD | {
        "ODEA_LOG_FORMAT": SECRET,
        "ODEA_LOG_LEVEL": SECRET,
        "ODEA_TASKS_MAX": SECRET,
        "ODEA_DRAIN_S": SECRET,
        "ODEA_OPS_ADDRESS": SECRET,
    }
    faults = faults_of(environ)
    assert len(faults) == 5
    assert not any(SECRET in fault for fault in faults)
    assert "ODEA_OPS_ADDRESS: Value error, must be host:port, as in 127.0.0.1:8080" in faults
    assert "ODEA_LOG_FORMAT: Input should be 'json' or 'pretty'" in faults


@pytest.mark.parametrize("show", [repr, str, DatabaseSettings.model_dump_json])
def test_secrets_are_in_no_text_of_the_settings(show: Callable[[DatabaseSettings], str]) -> None:
    """P6."""
    text = show(load(DatabaseSettings, GOOD))
    assert "nats_url" in text
    assert SECRET not in text


def test_an_error_of_the_settings_has_no_cause_that_could_be_printed() -> None:
    """P6: a traceback prints causes, and pydantic's error holds the input."""
    with pytest.raises(SettingsError) as caught:
        load(DatabaseSettings, NATS)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_settings_do_not_change() -> None:
    settings = load(Settings, NATS)
    with pytest.raises(ValidationError):
        settings.nats_url = SecretStr("other")  # pyright: ignore[reportAttributeAccessIssue] - that is the test


def test_what_an_orchestrator_adds_to_the_environment_is_ignored() -> None:
    """Kubernetes gives every pod such variables for each service in its namespace."""
    noise = {
        "ODEA_KEYS_PORT": "tcp://10.0.0.7:80",
        "ODEA_KEYS_PORT_80_TCP_ADDR": "10.0.0.7",
        "ODEA_QUOTA_SERVICE_HOST": "10.0.0.8",
        "ODEA_NATS_PORT": "tcp://10.0.0.9:4222",
        "PATH": "/bin",
        "LOG_LEVEL": "shout",
    }
    assert load(StreamSettings, NATS | noise) == load(StreamSettings, NATS)


def test_no_setting_has_a_name_that_an_orchestrator_would_set() -> None:
    endings = ("_port", "_service_host", "_service_port", "_tcp", "_udp", "_addr", "_proto")
    fields = {*DatabaseSettings.model_fields, *StreamSettings.model_fields}
    assert not [field for field in fields if field.endswith(endings)]


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("0.0.0.0:0", Address("0.0.0.0", 0)),
        ("odea.example:65535", Address("odea.example", 65535)),
        ("[::1]:80", Address("::1", 80)),
        ("[::]:9090", Address("::", 9090)),
    ],
)
def test_an_address_is_host_and_port_and_reads_back(text: str, address: Address) -> None:
    settings = load(Settings, NATS | {"ODEA_OPS_ADDRESS": text})
    assert settings.ops_address == address
    assert str(settings.ops_address) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "8080", ":8080", "host:", "host:port", "host:-1", "host:65536", "host:8 0", "host:\u0668\u0660", "[]:1"),
        *("tcp://10.0.0.7:80", "::1:80", "[host:80", "user@host:80", "ho st:80", "host:80\n", "host:" + "9" * 5000),
    ],
)
def test_an_address_without_host_and_port_is_refused(text: str) -> None:
    assert faults_of(NATS | {"ODEA_OPS_ADDRESS": text}, Settings) == [
        "ODEA_OPS_ADDRESS: Value error, must be host:port, as in 127.0.0.1:8080"
    ]


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", ""])
def test_a_time_limit_is_a_number_above_nothing(value: str) -> None:
    """P10: a limit that limits nothing is no limit."""
    [fault] = faults_of(NATS | {"ODEA_CALL_TIMEOUT_S": value}, Settings)
    assert fault.startswith("ODEA_CALL_TIMEOUT_S: ")


def test_standard_variables_stand_for_ours_unless_those_are_given(tmp_path: Path) -> None:
    standard = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://standard:4318"}
    file = tmp_path / "endpoint"
    file.write_text("http://file:4318\n")
    given = {
        "standard": {},
        "ours": {"ODEA_OTLP_ENDPOINT": "http://ours:4318"},
        "file": {"ODEA_OTLP_ENDPOINT_FILE": str(file)},
    }
    for name, environ in given.items():
        endpoint = load(Settings, NATS | standard | environ).otlp_endpoint
        assert endpoint is not None
        assert endpoint.get_secret_value() == f"http://{name}:4318"
