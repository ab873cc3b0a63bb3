"""A wrong setting is one clear line, before any request; a secret is never part of it."""

from __future__ import annotations

import string
import traceback
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from dagster._core.secrets.env_file import get_env_var_dict
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from pipeline.api import Client
from pipeline.pseudonyms import Pseudonyms
from pipeline.retention import Retention
from pipeline.settings import Settings, SettingsError, load_settings, misspelt
from pipeline.thresholds import Thresholds

SECRET = "mka1-planted-Secret_0123456789"
SIGNING = "whsec_" + "QUJD" * 8
KEY_CHARS = st.characters(min_codepoint=0x21, max_codepoint=0x7E)


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and an environment without settings."""
    for name in [*(str(f.validation_alias) for f in Settings.model_fields.values())]:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def env_file(nowhere: Path) -> Callable[[bytes], None]:
    """Write `.env`."""

    def write(content: bytes) -> None:
        (nowhere / ".env").write_bytes(content)

    return write


def refusal(**overrides: object) -> str:
    """The message of the error that loading brings; checks that its chain holds no secret."""
    with pytest.raises(SettingsError) as caught:
        load_settings(**overrides)
    assert caught.value.__cause__ is None
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_all_has_a_default_but_the_key(nowhere: Path) -> None:
    loaded = load_settings()
    assert loaded.base_url == "https://apigw.mka1.com"
    assert loaded.home == nowhere / "data"
    assert loaded.lake == nowhere / "data" / "lake"
    assert loaded.catalog == nowhere / "data" / "usage.duckdb"
    assert loaded.dagster_home == nowhere / "data" / "dagster"
    assert loaded.export_dir == nowhere / "data" / "export"
    assert loaded.prices == nowhere / "data" / "prices.csv"
    assert loaded.names == nowhere / "data" / "names.csv"
    assert loaded.budgets == nowhere / "data" / "budgets.csv"
    with pytest.raises(SettingsError, match=r"^MKA1_API_KEY is not set"):
        loaded.key()


def test_every_setting_is_read_from_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "MKA1_BASE_URL": "http://localhost:8600/",
        "MKA1_API_KEY": f" {SECRET} ",
        "MKA1_API_KEY_ID": "key_web",
        "MKA1_API_KEYS": f"key_web={SECRET},key_job=x",
        "MKA1_USAGE_HOME": "/tmp/usage",
        "MKA1_USAGE_FIRST_DAY": "2025-06-01",
        "MKA1_USAGE_LOOKBACK_DAYS": "5",
        "MKA1_USAGE_DAILY_LOOKBACK_DAYS": "60",
        "MKA1_USAGE_KEEP_MINUTES_DAYS": "90",
        "MKA1_USAGE_KEEP_HOURS_DAYS": "730",
        "MKA1_USAGE_KEEP_ITEMS_DAYS": "365",
        "MKA1_USAGE_KEEP_CONTENTS_DAYS": "14",
        "MKA1_USAGE_CONCURRENCY": "8",
        "MKA1_USAGE_REQUESTS_PER_SECOND": "9.5",
        "MKA1_USAGE_RETRY_SECONDS": "30",
        "MKA1_USAGE_REQUEST_TIMEOUT": "10",
        "MKA1_USAGE_MAX_ANSWER_MB": "64",
        "MKA1_USAGE_MEMORY": "1.5GB",
        "MKA1_USAGE_CATALOG": "postgresql://me:secret@db.example/usage",
        "MKA1_USAGE_WAREHOUSE": "s3://bucket/usage/",
        "MKA1_USAGE_WORKERS": "4",
        "MKA1_USAGE_DAYS_PER_RUN": "7",
        "MKA1_USAGE_SPARK_REMOTE": "sc://spark.example:15002",
        "MKA1_USAGE_STORE_CONTENT": "true",
        "MKA1_USAGE_ENDPOINTS": "costs, conversations",
        "MKA1_USAGE_EXPORT_DIR": "/tmp/export",
        "MKA1_USAGE_PRICES": "/tmp/prices.csv",
        "MKA1_USAGE_BUDGETS": "/tmp/budgets.csv",
        "MKA1_USAGE_NAMES": "/tmp/who.csv",
        "MKA1_USAGE_EXPORT_NAMES": "/tmp/names.csv",
        "MKA1_USAGE_EXPORT_READABLE_BY": "group",
        "MKA1_USAGE_SERVE_KEYS": f"{SECRET},{SECRET[::-1]}",
        "MKA1_USAGE_SLACK_WEBHOOK": f"https://hooks.slack.com/services/T/B/{SECRET}",
        "MKA1_USAGE_WEBHOOK_SECRET": SIGNING,
        "MKA1_USAGE_WEBHOOK_URL": f"https://hooks.example.com/x?token={SECRET}",
        "MKA1_USAGE_SMTP_URL": f"smtps://me:{SECRET}@mail.example.com",
        "MKA1_USAGE_MAIL_FROM": "usage@example.com",
        "MKA1_USAGE_MAIL_TO": "oncall@example.com, boss@example.com",
        "MKA1_USAGE_APPRISE_URLS": f"msteams://{SECRET} ntfys://{SECRET[::-1]}",
        "MKA1_USAGE_ALERT_LATE_MINUTES": "15",
        "MKA1_USAGE_ALERT_BASELINE_DAYS": "14",
        "MKA1_USAGE_ALERT_SPIKE_TIMES": "4.5",
        "MKA1_USAGE_ALERT_SPIKE_OPERATIONS": "1000",
        "MKA1_USAGE_ALERT_SPIKE_TOKENS": "5000",
        "MKA1_USAGE_ALERT_SPIKE_COST": "2.5",
        "MKA1_USAGE_ALERT_FAILED_PERCENT": "12.5",
        "MKA1_USAGE_ALERT_FAILED_RESPONSES": "7",
        "MKA1_USAGE_ALERT_ZERO_USUAL": "70",
        "DAGSTER_HOME": "/tmp/dagster",
    }
    apart = {"MKA1_USAGE_PSEUDONYM_KEY"}  # which is not taken together with content
    assert {*values, *apart} == {str(f.validation_alias) for f in Settings.model_fields.values()}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    loaded = load_settings()
    assert loaded.base_url == "http://localhost:8600"
    assert loaded.key().get_secret_value() == SECRET
    assert loaded.api_key_id == "key_web"
    assert {k: v.get_secret_value() for k, v in loaded.api_keys.items()} == {
        "key_web": SECRET,
        "key_job": "x",
    }
    assert (loaded.home, loaded.dagster_home) == (Path("/tmp/usage"), Path("/tmp/dagster"))
    assert loaded.first_day == date(2025, 6, 1)
    assert (loaded.lookback_days, loaded.daily_lookback_days) == (5, 60)
    assert loaded.retention == Retention(90, 730, 365, 14)
    assert (loaded.concurrency, loaded.requests_per_second) == (8, 9.5)
    assert (loaded.retry_seconds, loaded.request_timeout) == (30, 10)
    assert loaded.max_answer_mb == 64
    assert loaded.memory == 1_500_000_000
    assert loaded.shared_catalog == SecretStr("postgresql://me:secret@db.example/usage")
    assert loaded.shared_warehouse == "s3://bucket/usage"
    assert (loaded.workers, loaded.requests_per_worker, loaded.days_per_run) == (4, 2, 7)
    assert loaded.spark_remote == SecretStr("sc://spark.example:15002")
    assert loaded.store_content
    assert loaded.endpoints == ("conversations", "costs")
    assert (loaded.export_dir, loaded.export_names) == (Path("/tmp/export"), Path("/tmp/names.csv"))
    assert loaded.names == Path("/tmp/who.csv")
    assert (loaded.prices, loaded.budgets) == (Path("/tmp/prices.csv"), Path("/tmp/budgets.csv"))
    assert loaded.export_readable_by == "group"
    assert [key.get_secret_value() for key in loaded.serve_keys] == [SECRET, SECRET[::-1]]
    secrets = (loaded.slack_webhook, loaded.webhook_url, loaded.smtp_url)
    assert all(one is not None and SECRET in one.get_secret_value() for one in secrets)
    assert loaded.webhook_secret == SecretStr(SIGNING)
    assert loaded.apprise_urls == (
        SecretStr(f"msteams://{SECRET}"),
        SecretStr(f"ntfys://{SECRET[::-1]}"),
    )
    assert loaded.mail_from == ("usage@example.com",)
    assert loaded.mail_to == ("oncall@example.com", "boss@example.com")
    assert loaded.thresholds == Thresholds(
        late_minutes=15,
        baseline_days=14,
        spike_times=4.5,
        spike_operations=1_000,
        spike_tokens=5_000,
        spike_cost=Decimal("2.5"),
        failed_percent=12.5,
        failed_responses=7,
        zero_usual=70,
        watched_days=60,
    )


def test_a_variable_that_is_no_setting_any_more_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load_settings()
    monkeypatch.setenv("MKA1_USAGE_ALERT_REQUESTS_PER_DAY", "not a number")
    assert load_settings() == plain


@pytest.mark.parametrize("warehouse", ["", "gs://bucket/usage", "s3://"])
def test_a_shared_lake_needs_a_place_for_its_files(
    monkeypatch: pytest.MonkeyPatch, warehouse: str
) -> None:
    monkeypatch.setenv("MKA1_USAGE_CATALOG", "sqlite:////srv/catalog.db")
    monkeypatch.setenv("MKA1_USAGE_WAREHOUSE", warehouse)
    assert refusal().startswith("MKA1_USAGE_WAREHOUSE: ")


def test_workers_share_whole_requests_and_never_more_than_there_are() -> None:
    assert load_settings(requests_per_second=2.5).requests_per_worker == 2.5
    assert load_settings(requests_per_second=10.5, workers=4).requests_per_worker == 2
    assert load_settings(requests_per_second=0.5, workers=1).requests_per_worker == 0.5


def test_users_have_pseudonyms_where_a_key_for_them_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load_settings().pseudonyms is None
    monkeypatch.setenv("MKA1_USAGE_PSEUDONYM_KEY", f" {SECRET} ")
    pseudonyms = load_settings().pseudonyms
    assert pseudonyms is not None
    assert pseudonyms == Pseudonyms(SecretStr(SECRET))


def test_what_people_say_is_not_stored_beside_pseudonyms(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKA1_USAGE_PSEUDONYM_KEY", SECRET)
    monkeypatch.setenv("MKA1_USAGE_STORE_CONTENT", "true")
    message = refusal()
    assert message.startswith("MKA1_USAGE_PSEUDONYM_KEY: ")
    assert "MKA1_USAGE_STORE_CONTENT=true" in message
    monkeypatch.setenv("MKA1_USAGE_STORE_CONTENT", "false")
    assert load_settings().pseudonyms is not None


def test_the_key_for_usage_lists_too_where_its_id_is_known() -> None:
    alone = load_settings(api_key=SECRET)
    assert alone.keys() == {}
    known = load_settings(api_key=SECRET, api_key_id="key_web", api_keys={"key_job": "x"})
    assert {k: v.get_secret_value() for k, v in known.keys().items()} == {
        "key_web": SECRET,
        "key_job": "x",
    }


def test_variables_of_other_programs_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.setenv(name.upper(), "7")
    monkeypatch.setenv("HOME", "/tmp/someone")
    monkeypatch.delenv("SET_DAGSTER_HOME", raising=False)
    assert load_settings().home.name == "data"
    assert load_settings().concurrency == 4
    assert load_settings().base_url == "https://apigw.mka1.com"


def test_empty_variables_are_not_set(
    monkeypatch: pytest.MonkeyPatch, env_file: Callable[[bytes], None]
) -> None:
    for field in Settings.model_fields.values():
        monkeypatch.setenv(str(field.validation_alias), "")
    assert load_settings().api_key is None
    env_file(b"MKA1_API_KEY=from-file\nMKA1_API_KEY_ID=\n")
    assert load_settings().key().get_secret_value() == "from-file"
    assert load_settings().api_key_id is None


def test_the_environment_wins_over_the_file_and_an_override_over_both(
    monkeypatch: pytest.MonkeyPatch, env_file: Callable[[bytes], None]
) -> None:
    env_file(b"MKA1_USAGE_CONCURRENCY=2\nMKA1_API_KEY_ID=file")
    assert load_settings().concurrency == 2
    monkeypatch.setenv("MKA1_USAGE_CONCURRENCY", "3")
    assert (load_settings().concurrency, load_settings().api_key_id) == (3, "file")
    assert load_settings(concurrency=5).concurrency == 5


@pytest.mark.parametrize(
    "content",
    [
        b"MKA1_API_KEY=a#b=c",
        b"MKA1_API_KEY=a#b=c\r\nMKA1_API_KEY_ID=x\r\n",
        b"\xef\xbb\xbfMKA1_API_KEY=a#b=c\n",
        b'MKA1_API_KEY="a#b=c"\n',
        b"MKA1_API_KEY='a#b=c'   # the key\n",
        b"MKA1_API_KEY=a#b=c # the key\n",
        b"export MKA1_API_KEY = a#b=c\n",
        b"# notes\n\n  MKA1_API_KEY=a#b=c\nOTHER=1\nnonsense here\n",
    ],
)
def test_a_file_is_read_however_editors_write_it(
    env_file: Callable[[bytes], None], content: bytes
) -> None:
    env_file(content)
    assert load_settings().key().get_secret_value() == "a#b=c"


@pytest.mark.parametrize("content", ["MKA1_API_KEY=x".encode("utf-16"), b"MKA1_API_KEY=\xff"])
def test_a_file_that_is_no_text_is_named(env_file: Callable[[bytes], None], content: bytes) -> None:
    env_file(content)
    assert refusal() == ".env is not UTF-8 text"


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (
            "MKA1_BASE_URL",
            [
                "apigw.mka1.com",
                "ftp://apigw.mka1.com",
                "https://",
                "https:///path",
                "http://apigw.mka1.com",
                "http://127.0.0.1.example.com",
                "http://localhost.example.com",
                f"https://user:{SECRET}@apigw.mka1.com",
                f"https://{SECRET}@apigw.mka1.com",
                f"https://apigw.mka1.com?key={SECRET}",
                f"https://apigw.mka1.com/#{SECRET}",
                "https://apigw.mka1.com?",
                "https://apigw.mka1.com#",
                "https://apigw.mka1.com\\@evil.example",
                "https://api gw.mka1.com",
                "https://api\tgw.mka1.com",
                "https://apigw..mka1.com",
                "https://apigw.mka1.com:https",
                "https://apigw.mka1.com:99999",
                "http://[::1",
                "https://xn--/",
            ],
        ),
        ("MKA1_API_KEY", [" ", "\t", f"Bearer {SECRET}", f"{SECRET}\n{SECRET}", f"{SECRET}é"]),
        (
            "MKA1_API_KEYS",
            [
                SECRET,
                f"{SECRET}=",
                f"{SECRET}==",
                f"={SECRET}",
                f"key_web={SECRET},{SECRET}",
                f"key_web={SECRET},key_web={SECRET}",
                f"{SECRET}=a,{SECRET}=b",
                f"key_web={SECRET} {SECRET}",
                f"key_web={SECRET}é",
                f'{{"key_web": "{SECRET}"}}',
            ],
        ),
        ("MKA1_USAGE_PSEUDONYM_KEY", [" ", SECRET[:15], f"{SECRET} x", f"{SECRET}é"]),
        ("MKA1_USAGE_ENDPOINTS", ["files", ",", SECRET, "conversations,prices", "conversations;x"]),
        ("MKA1_USAGE_HOME", ["~nobody-of-this-name/usage"]),
        ("DAGSTER_HOME", ["~nobody-of-this-name/dagster"]),
        ("MKA1_USAGE_FIRST_DAY", ["today", "2024-02-30", "20240101", "0001-01-01", "2019-12-31"]),
        ("MKA1_USAGE_LOOKBACK_DAYS", ["-1", "367", "3.5", "three"]),
        ("MKA1_USAGE_DAILY_LOOKBACK_DAYS", ["-1", "367", "x"]),
        ("MKA1_USAGE_KEEP_MINUTES_DAYS", ["0", "31", "-1", "36601", "x"]),
        ("MKA1_USAGE_KEEP_HOURS_DAYS", ["31", "36601", "400", SECRET]),
        ("MKA1_USAGE_KEEP_ITEMS_DAYS", ["31", "36601", "x"]),
        ("MKA1_USAGE_KEEP_CONTENTS_DAYS", ["0", "-1", "x"]),
        ("MKA1_USAGE_CONCURRENCY", ["0", "65", "x"]),
        ("MKA1_USAGE_REQUESTS_PER_SECOND", ["0", "-1", "10001", "nan", "inf"]),
        ("MKA1_USAGE_RETRY_SECONDS", ["-1", "nan", "inf", "1e999", SECRET]),
        ("MKA1_USAGE_REQUEST_TIMEOUT", ["0", "nan", "inf", SECRET]),
        (
            "MKA1_USAGE_MEMORY",
            ["0", "-1GB", "4", "127MB", "1e3", "lots", "2000PB", "nanGB", SECRET],
        ),
        ("MKA1_USAGE_MAX_ANSWER_MB", ["0", "-1", "0.5", "4097", SECRET]),
        (
            "MKA1_USAGE_CATALOG",
            [
                "catalog.db",
                "sqlite:",
                "postgresql://",
                "mysql://host/usage",
                "sqlite:///a b",
                SECRET,
            ],
        ),
        ("MKA1_USAGE_WAREHOUSE", ["/srv/lake", "s3://bucket"]),  # without a catalog
        (
            "MKA1_USAGE_SLACK_WEBHOOK",
            [
                SECRET,
                f"http://hooks.slack.com/{SECRET}",
                f"https://user:{SECRET}@hooks.slack.com/",
                f"https://hooks.slack.com/#{SECRET}",
                f"https://hooks.slack.com/a {SECRET}",
                f"ftp://hooks.slack.com/{SECRET}",
                f"https:///{SECRET}",
            ],
        ),
        ("MKA1_USAGE_WEBHOOK_URL", [f"http://h.example/{SECRET}", f"https://h.example/{SECRET}"]),
        ("MKA1_USAGE_WEBHOOK_SECRET", [SECRET, f"whsec_{SECRET}", "whsec_", "whsec_QUJD"]),
        (
            "MKA1_USAGE_SMTP_URL",
            [
                "mail.example.com",
                f"https://me:{SECRET}@mail.example.com",
                f"smtp://:{SECRET}@mail.example.com",
                f"smtps://me:{SECRET}@mail.example.com/path",
                f"smtp://me:{SECRET}@mail.example.com:0",
                f"smtp://me:{SECRET}@mail.example.com:x",
                f"smtp://mail.example.com?{SECRET}",
            ],
        ),
        ("MKA1_USAGE_APPRISE_URLS", [SECRET, f"ntfy:/{SECRET}", f"ntfy://a,{SECRET} x", "ntfy://"]),
        ("MKA1_USAGE_MAIL_FROM", ["me", "a@b.example,c@b.example", "a@b@c", "A <a@b.example>"]),
        ("MKA1_USAGE_MAIL_TO", ["me", "a@b.example", "ü@b.example", "a b@c.example", "a@"]),
        ("MKA1_USAGE_WORKERS", ["0", "51", "2.5", "x"]),
        ("MKA1_USAGE_DAYS_PER_RUN", ["0", "367", "x"]),
    ],
)
def test_a_malformed_setting_is_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, values: list[str]
) -> None:
    for value in values:
        monkeypatch.setenv(name, value)
        message = refusal()
        assert message.startswith(f"{name}: "), value


@pytest.mark.parametrize("override", [{"base_url": "x"}, {"concurrency": 0}, {"api_key": " "}])
def test_a_malformed_override_is_named_as_its_variable(override: dict[str, object]) -> None:
    assert refusal(**override).startswith("MKA1_")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://apigw.mka1.com", "https://apigw.mka1.com"),
        (" https://apigw.mka1.com// ", "https://apigw.mka1.com"),
        ("HTTPS://ApiGW.mka1.com/v", "HTTPS://ApiGW.mka1.com/v"),
        ("https://host.example:8443/a/b/", "https://host.example:8443/a/b"),
        ("http://localhost:8600", "http://localhost:8600"),
        ("http://LOCALHOST", "http://LOCALHOST"),
        ("http://127.0.0.1:1", "http://127.0.0.1:1"),
        ("http://127.8.8.8", "http://127.8.8.8"),
        ("http://[::1]:8600/", "http://[::1]:8600"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[0:0:0:0:0:0:0:1]"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]"),
        ("https://bücher.example", "https://bücher.example"),
    ],
)
def test_a_base_url_that_can_be_asked_is_taken(text: str, expected: str) -> None:
    assert load_settings(base_url=text).base_url == expected


@given(
    st.text("htps:/.abc[]@?#\\%019 :é~", max_size=30).map("https://".__add__)
    | st.text("htps:/.abc[]@?#\\%019 :é~", max_size=30)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_base_url_is_taken_that_the_client_cannot_use(text: str) -> None:
    try:
        url = load_settings(base_url=text).base_url
    except SettingsError:
        return
    assert repr(Client(url, SecretStr("k"))).startswith("Client('http")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=1", {"a": "1"}),
        (" a = 1 , b=2,, ", {"a": "1", "b": "2"}),
        ("a=x=y==", {"a": "x=y=="}),
        (",", {}),
        ("  ", {}),
        ("ключ=1", {"ключ": "1"}),
    ],
)
def test_a_ring_of_keys_is_split_at_commas_and_at_the_first_equals_sign(
    text: str, expected: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKA1_API_KEYS", text)
    found = load_settings().api_keys
    assert {name: secret.get_secret_value() for name, secret in found.items()} == expected


@given(secret=st.text(KEY_CHARS, min_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_loaded_settings_never_show_a_secret(secret: str) -> None:
    # Signs that settings themselves are written with may well be shown.
    marked = string.ascii_letters + secret
    loaded = load_settings(api_key=marked, api_keys={"key_web": marked}, pseudonym_key=marked)
    shown = [repr(loaded), str(loaded), repr(loaded.key()), loaded.model_dump_json()]
    shown += [str(loaded.model_dump()), str(vars(loaded)), f"{loaded.api_keys}"]
    shown += [repr(loaded.pseudonyms), str(loaded.pseudonyms)]
    assert all(string.ascii_letters not in text for text in shown)
    assert loaded.key().get_secret_value() == marked


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().concurrency = 1


def test_the_home_folder_is_absolute_and_may_begin_with_a_tilde(
    monkeypatch: pytest.MonkeyPatch, nowhere: Path
) -> None:
    monkeypatch.setenv("HOME", str(nowhere / "me"))
    assert load_settings(home="~/usage").home == nowhere / "me" / "usage"
    assert load_settings(home="usage").home == nowhere / "usage"


# `.env`


@pytest.mark.parametrize("text", ["~/usage", "$HOME/usage", "${HOME}/usage", '"$HOME/usage"'])
@pytest.mark.parametrize(
    "name", ["MKA1_USAGE_HOME", "MKA1_USAGE_EXPORT_DIR", "MKA1_USAGE_EXPORT_NAMES", "DAGSTER_HOME"]
)
def test_in_a_folder_of_the_file_home_is_the_home_folder(
    name: str,
    text: str,
    env_file: Callable[[bytes], None],
    nowhere: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", str(nowhere / "me"))
    env_file(f"{name}={text}\n".encode())
    fields = {str(field.validation_alias): name for name, field in Settings.model_fields.items()}
    assert getattr(load_settings(), fields[name]) == nowhere / "me" / "usage"


@pytest.mark.parametrize("path", ["/srv/a$b", "/srv/$", "/srv/100%"])
def test_other_folders_are_taken_as_they_are(path: str, env_file: Callable[[bytes], None]) -> None:
    env_file(f"MKA1_USAGE_HOME={path}\n".encode())
    assert load_settings().home == Path(path)


def test_a_folder_of_the_environment_is_taken_as_the_shell_has_left_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MKA1_USAGE_HOME", "/srv/$HOME")
    assert load_settings().home == Path("/srv/$HOME")


@pytest.mark.parametrize("part", ["$HOME", "${HOME}", "${HOME:-x}", "$$", "a$b", "~"])
def test_a_secret_of_the_file_is_taken_as_it_is(
    part: str, env_file: Callable[[bytes], None]
) -> None:
    secret = f"{SECRET}{part}{SECRET}"
    lines = {
        "MKA1_API_KEY": secret,
        "MKA1_API_KEYS": f"key_web={secret}",
        "MKA1_USAGE_PSEUDONYM_KEY": secret,
        "MKA1_USAGE_SERVE_KEYS": secret,
    }
    env_file("".join(f"{name}={value}\n" for name, value in lines.items()).encode())
    loaded = load_settings()
    assert loaded.key().get_secret_value() == secret
    assert loaded.api_keys["key_web"].get_secret_value() == secret
    assert loaded.pseudonyms == Pseudonyms(SecretStr(secret))
    assert [key.get_secret_value() for key in loaded.serve_keys] == [secret]


def test_what_dagster_copies_from_the_file_into_the_environment_means_the_same(
    env_file: Callable[[bytes], None], nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = f"{SECRET}${{HOME}}"
    env_file(f"MKA1_API_KEY={secret}\nMKA1_USAGE_HOME=$HOME/usage\n".encode())
    monkeypatch.setenv("HOME", str(nowhere / "me"))
    for name, value in get_env_var_dict(str(nowhere)).items():
        monkeypatch.setenv(name, value)
    assert load_settings().home == nowhere / "me" / "usage"
    assert load_settings().key().get_secret_value() == secret


def test_other_settings_of_the_file_may_name_variables(
    env_file: Callable[[bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGION", "eu")
    env_file(b"mka1_base_url=https://${REGION}.example\nMKA1_USAGE_CONCURRENCY=\n")
    assert load_settings().base_url == "https://eu.example"
    monkeypatch.setenv("MKA1_BASE_URL", "https://us.example")
    assert load_settings().base_url == "https://us.example", "the environment wins"


# Names that are none


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("MKA1_USAGE_HOMES", "MKA1_USAGE_HOME"),
        ("MKA1_USAGE_LOOKBACK", "MKA1_USAGE_LOOKBACK_DAYS"),
        ("mka1_usage_concurency", "MKA1_USAGE_CONCURRENCY"),
        ("MKA1_USAGE_QQQQQQ", None),
        ("MKA1_APIKEY", "MKA1_API_KEY"),
        ("MKA1_BASE_ULR", "MKA1_BASE_URL"),
        ("MKA_API_KEY", "MKA1_API_KEY"),
    ],
)
def test_a_slip_has_a_nearest_setting(name: str, near: str | None) -> None:
    assert misspelt(["PATH", name]) == {name: near}


@pytest.mark.parametrize(
    "name",
    [
        *(str(field.validation_alias) for field in Settings.model_fields.values()),
        *("mka1_api_key", "MKA1_API_KEY_2", "MKA1_API_KEY_PROD", "MKA1_TENANT", "MKA1_USAGE"),
        *("DAGSTER_HOMES", "API_KEY", "SDK_API_KEY", "_MKA1_USAGE_COMPLETE"),
    ],
)
def test_a_setting_and_what_others_call_theirs_is_no_slip(name: str) -> None:
    assert misspelt([name]) == {}


def test_minutes_are_kept_no_longer_than_hours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKA1_USAGE_KEEP_HOURS_DAYS", "400")
    monkeypatch.setenv("MKA1_USAGE_KEEP_MINUTES_DAYS", "401")
    with pytest.raises(SettingsError, match="400 or less"):
        load_settings()
    monkeypatch.setenv("MKA1_USAGE_KEEP_MINUTES_DAYS", "40")
    assert load_settings().retention == Retention(40, 400)
    monkeypatch.setenv("MKA1_USAGE_KEEP_HOURS_DAYS", "40")
    monkeypatch.setenv("MKA1_USAGE_DAILY_LOOKBACK_DAYS", "60")
    with pytest.raises(SettingsError, match=r"^MKA1_USAGE_DAILY_LOOKBACK_DAYS: is 60"):
        load_settings()


def test_what_items_say_is_kept_no_longer_than_they(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MKA1_USAGE_KEEP_ITEMS_DAYS", "400")
    retention = load_settings().retention
    assert (retention.days("items"), retention.days("contents")) == (400, 400)
    monkeypatch.setenv("MKA1_USAGE_KEEP_CONTENTS_DAYS", "401")
    with pytest.raises(SettingsError, match=r"CONTENTS_DAYS: is 401, .* set it to 400 or less"):
        load_settings()
    monkeypatch.setenv("MKA1_USAGE_KEEP_CONTENTS_DAYS", "14")
    assert load_settings().retention == Retention(items=400, contents=14)
