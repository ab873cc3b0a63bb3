"""The environment (and a `.env` file) as one frozen, validated object; secrets never print.

Belongs here: every setting, its default, its bounds and its one-line complaint. Nothing is read at
import: `load_settings()` reads when it is called, so that definitions load without an account.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    AliasGenerator,
    BeforeValidator,
    ByteSize,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from pipeline.addresses import MessageSettings, is_loopback
from pipeline.apart import EARLIEST
from pipeline.endpoints import CONVERSATIONS, METERED
from pipeline.memory import LEAST
from pipeline.paths import unusable
from pipeline.pseudonyms import Pseudonyms
from pipeline.retention import LEAST_DAYS, Retention
from pipeline.thresholds import Thresholds

GATEWAY: Final = "https://apigw.mka1.com"
COSTS: Final = "costs"
"""What the API bills: it is asked for beside the usage endpoints."""
ENDPOINTS: Final = (CONVERSATIONS.name, *METERED, COSTS)
"""What MKA1_USAGE_ENDPOINTS may name."""
ENV_FILE: Final = ".env"
"""In the current folder."""
_OURS: Final = "MKA1_USAGE_"
_LARGEST: Final = 2**60
"""Bytes: what DuckDB takes for a limit of memory."""
_SHORTEST_SECRET: Final = 16
"""Characters of a secret that this project makes up, not the API."""


class SettingsError(ValueError):
    """A setting is missing or malformed. The message is one line, names it, and holds no secret.

    `wrong` has the complaint of each setting that is malformed, by variable; the message is the
    first of them.
    """

    def __init__(self, message: str, wrong: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.wrong: Mapping[str, str] = wrong or {}


def _checked_url(text: str) -> str:
    # The client's own reading of a URL, so that nothing passes here that fails there. It takes as
    # long to import as all else here: completion and `--help` must not wait for it.
    import httpx

    try:
        url = httpx.URL(text.strip())
        loopback = is_loopback(url.host)
    except (httpx.InvalidURL, ValueError):
        raise ValueError("is no URL such as https://apigw.mka1.com") from None
    if url.scheme not in {"http", "https"} or not url.host or "\\" in text:
        raise ValueError("must be a URL such as https://apigw.mka1.com")
    if any(char.isspace() for char in text.strip()) or (url.port or 0) > 65_535 or ".." in url.host:
        raise ValueError("holds a host or a port that cannot be")
    if url.userinfo:
        raise ValueError("must not hold a user name or password; the key goes into MKA1_API_KEY")
    if "?" in text or "#" in text:
        raise ValueError("must not hold a query or a fragment")
    if url.scheme == "http" and not loopback:
        raise ValueError("must be https:// (http:// is taken for this machine only)")
    return text.strip().rstrip("/")


def _checked_catalog(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    scheme, separator, rest = text.partition("://")
    known = scheme in {"sqlite", "postgresql", "http", "https"}
    if not (separator and known and rest) or not text.isprintable() or " " in text:
        raise ValueError(
            "must be such as sqlite:////srv/catalog.db, postgresql://user:password@host/database "
            "or https://host of an Iceberg REST catalog"
        )
    return SecretStr(text)


def _checked_folder(path: Path) -> Path:
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise ValueError("begins with ~ and the name of a user that has no home") from None


def _for_tables(path: Path) -> Path:
    if reason := unusable(path):
        raise ValueError(f"{reason}: name another folder")
    return path


def _checked_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if not text:
        raise ValueError("is empty")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("holds characters that no key has (spaces, line ends or non-ASCII)")
    return SecretStr(text)


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < _SHORTEST_SECRET:
        raise ValueError(
            f"is shorter than {_SHORTEST_SECRET} characters: take random ones, such as "
            "`openssl rand -hex 32` prints"
        )
    return secret


def _split_keys(value: object) -> object:
    """`key_id=secret,key_id=secret` as a mapping; a secret may itself hold `=`."""
    if not isinstance(value, str):
        return value
    keys: dict[str, str] = {}
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    for place, entry in enumerate(entries, start=1):
        key_id, separator, secret = entry.partition("=")
        # The entry itself may be a bare secret, which may end in `=`: the complaint only counts.
        if not separator or not key_id.strip() or not secret.strip(" ="):
            raise ValueError(f"entry {place} is not key_id=secret")
        if key_id.strip() in keys:
            raise ValueError(f"entry {place} repeats the key id of an earlier one")
        keys[key_id.strip()] = secret
    return keys


def _split_secrets(value: object) -> object:
    """`secret,secret` as secrets, each long enough that nobody guesses it."""
    if not isinstance(value, str):
        return value
    entries = [entry.strip() for entry in value.split(",") if entry.strip()]
    if not entries:
        raise ValueError("holds no key: set it to secret,secret or leave it unset")
    for place, entry in enumerate(entries, start=1):
        try:
            _long_enough(_checked_secret(SecretStr(entry)))
        except ValueError as error:
            raise ValueError(f"entry {place} {error}") from None
    return tuple(entries)


def _split_endpoints(value: object) -> object:
    """`name,name` as names of usage endpoints, each once."""
    if not isinstance(value, str):
        return value
    names = [name.strip() for name in value.split(",") if name.strip()]
    for place, name in enumerate(names, start=1):
        if name not in ENDPOINTS:
            raise ValueError(f"entry {place} is none of {', '.join(ENDPOINTS)}")
    if CONVERSATIONS.name not in names:
        raise ValueError(
            f"lacks {CONVERSATIONS.name}, which is always loaded: set it to "
            f"{','.join([CONVERSATIONS.name, *names])}"
        )
    return tuple(name for name in ENDPOINTS if name in names)


def _checked_memory(value: object) -> object:
    """`4GB` or `512MB` as bytes."""
    if not isinstance(value, str):
        return value
    try:
        size = TypeAdapter(ByteSize).validate_python(value.strip())
    except ValidationError:
        raise ValueError("is no size such as 4GB or 512MB") from None
    if not LEAST <= size <= _LARGEST:
        least = f"{LEAST // 1_000_000}MB"
        raise ValueError(f"must be {least} or more, with its unit, such as 4GB or 512MB")
    return int(size)


Url = Annotated[str, AfterValidator(_checked_url)]
Secret = Annotated[SecretStr, AfterValidator(_checked_secret)]
CatalogUrl = Annotated[SecretStr, AfterValidator(_checked_catalog)]
PseudonymKey = Annotated[Secret, AfterValidator(_long_enough)]
Folder = Annotated[Path, AfterValidator(_checked_folder)]
TablesFolder = Annotated[Folder, AfterValidator(_for_tables)]
Secrets = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_split_secrets)]
Endpoints = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_endpoints)]
Memory = Annotated[int, BeforeValidator(_checked_memory)]
KeyRing = Annotated[dict[str, Secret], NoDecode, BeforeValidator(_split_keys)]


class _EnvFile(PydanticBaseSettingsSource):
    """`.env`, without a change to secrets, which may hold a `$`.

    Elsewhere `${NAME}` is what the environment, or another line, says of it. In folders `$NAME`
    is too, as in a shell: no folder is called `$HOME`.

    `handed_on`: only what the environment has from this file, since Dagster copies its lines there
    by rules of its own, which change a secret that holds `${` and know no `$HOME`.
    """

    def __init__(self, settings_cls: type[BaseSettings], *, handed_on: bool = False) -> None:
        super().__init__(settings_cls)
        self._handed_on = handed_on

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError  # the whole file is read at once

    def __call__(self) -> dict[str, Any]:
        plain = {name.upper(): value for name, value in read_env_file(interpolate=False).items()}
        read = {name.upper(): value for name, value in read_env_file().items()}
        found: dict[str, Any] = {}
        for field in self.settings_cls.model_fields.values():
            name = str(field.validation_alias)
            if not read.get(name):
                continue
            if self._handed_on and os.environ.get(name) not in {read[name], plain[name]}:
                continue
            if _holds(field.annotation, SecretStr):
                found[name] = plain[name]
            elif _holds(field.annotation, Path):
                found[name] = os.path.expandvars(read[name])
            else:
                found[name] = read[name]
        return found


def read_env_file(path: Path = Path(ENV_FILE), *, interpolate: bool = True) -> dict[str, str]:
    """What `.env` sets, by name; nothing where there is none. OSError, UnicodeDecodeError."""
    values = dotenv_values(path, interpolate=interpolate, encoding="utf-8")
    return {name: value for name, value in values.items() if value is not None}


def _holds(annotation: Any, kind: type) -> bool:
    return annotation is kind or any(_holds(part, kind) for part in get_args(annotation))


class _Quota(BaseSettings):
    """How many requests the API is sent, and by how many workers."""

    requests_per_second: float = Field(50.0, gt=0, le=10_000)
    """The rate that the client never exceeds; after a 429 it goes slower by itself."""
    workers: int = Field(1, ge=1, le=1_000)
    """Workers that ask the API at the same time, and share its quota."""

    @field_validator("workers")
    @classmethod
    def _within_quota(cls, workers: int, info: ValidationInfo) -> int:
        rate = info.data.get("requests_per_second")
        if rate is not None and workers > max(rate, 1):
            raise ValueError(
                f"is {workers}, and MKA1_USAGE_REQUESTS_PER_SECOND is {rate:g}: each worker needs "
                "one request a second at least, so set fewer workers"
            )
        return workers

    @property
    def requests_per_worker(self) -> float:
        """Requests a second that this process may send: its part of the quota.

        Whole ones where there are several workers, which then never exceed it together.
        """
        if self.workers == 1:
            return self.requests_per_second
        return float(self.requests_per_second // self.workers)


class _SharedLake(BaseSettings):
    """Where the tables are that several workers share, and what their runs are like."""

    shared_catalog: CatalogUrl | None = Field(None, validation_alias="MKA1_USAGE_CATALOG")
    """The catalog of the shared lake; None: there is this home alone."""
    shared_warehouse: str | None = Field(
        None, validate_default=True, validation_alias="MKA1_USAGE_WAREHOUSE"
    )
    """Where the shared lake keeps its files: a folder, or `s3://bucket/prefix`."""
    days_per_run: int | None = Field(None, ge=1, le=366)
    """Days of a backfill that one run loads; None: all of them."""
    spark_remote: SecretStr | None = None
    """The Spark Connect server; its URL may hold a token."""

    @field_validator("shared_warehouse")
    @classmethod
    def _with_catalog(cls, warehouse: str | None, info: ValidationInfo) -> str | None:
        catalog_given = info.data.get("shared_catalog") is not None
        if warehouse is None and catalog_given:
            raise ValueError(
                "is not set, and MKA1_USAGE_CATALOG is: set it to the folder or to the "
                "s3://bucket/prefix of the shared lake's files"
            )
        if warehouse is not None and not catalog_given:
            raise ValueError(
                "is set without MKA1_USAGE_CATALOG, which says what its tables are: set both"
            )
        if warehouse is None:
            return None
        scheme, separator, rest = warehouse.partition("://")
        if not separator:
            return str(_for_tables(_checked_folder(Path(warehouse))))
        if scheme != "s3" or not rest:
            raise ValueError("must be a folder, or such as s3://bucket/prefix")
        return warehouse.rstrip("/")


class _Kept(BaseSettings):
    """For how many days what is kept."""

    keep_minutes_days: int | None = Field(None, ge=LEAST_DAYS, le=36_600)
    """For how many days minutes and rows as served are kept; None: for ever."""
    keep_hours_days: int | None = Field(None, ge=LEAST_DAYS, le=36_600)
    """For how many days hours are kept; None: for ever."""
    keep_items_days: int | None = Field(None, ge=LEAST_DAYS, le=36_600)
    """For how many days items and what they say are kept; None: for ever."""
    keep_contents_days: int | None = Field(None, ge=1, le=36_600)
    """For how many days what items say is kept; None: as long as the items."""

    @field_validator("keep_hours_days")
    @classmethod
    def _no_shorter_than_minutes(cls, hours: int | None, info: ValidationInfo) -> int | None:
        minutes = info.data.get("keep_minutes_days")
        if hours is not None and (minutes is None or minutes > hours):
            asked = "is not set" if minutes is None else f"is {minutes}"
            raise ValueError(
                f"is {hours}, and MKA1_USAGE_KEEP_MINUTES_DAYS {asked}: minutes are kept no longer "
                f"than hours, so set it to {hours} or less"
            )
        return hours

    @field_validator("keep_contents_days")
    @classmethod
    def _no_longer_than_items(cls, contents: int | None, info: ValidationInfo) -> int | None:
        items = info.data.get("keep_items_days")
        if contents is not None and items is not None and contents > items:
            raise ValueError(
                f"is {contents}, and MKA1_USAGE_KEEP_ITEMS_DAYS is {items}: what items say is kept "
                f"no longer than the items, so set it to {items} or less"
            )
        return contents

    @property
    def retention(self) -> Retention:
        """How long each kind of table is kept."""
        return Retention(
            minutes=self.keep_minutes_days,
            hours=self.keep_hours_days,
            items=self.keep_items_days,
            contents=self.keep_contents_days,
        )


class Settings(_Quota, _Kept, _SharedLake, MessageSettings):
    """All settings. Build it with `load_settings()`."""

    model_config = SettingsConfigDict(
        # The variable of a field that names none itself: MKA1_USAGE_HOME of `home`.
        alias_generator=AliasGenerator(validation_alias=lambda name: f"{_OURS}{name.upper()}"),
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        handed_on = _EnvFile(settings_cls, handed_on=True)
        return init_settings, handed_on, env_settings, _EnvFile(settings_cls)

    base_url: Url = Field(GATEWAY, validation_alias="MKA1_BASE_URL")
    api_key: Secret | None = Field(None, validation_alias="MKA1_API_KEY")
    """The key that usage is read with."""
    api_key_id: str | None = Field(None, validation_alias="MKA1_API_KEY_ID")
    api_keys: KeyRing = Field(default_factory=dict, validation_alias="MKA1_API_KEYS")
    """Secrets by key id, for what the API lists per key."""
    home: TablesFolder = Field(Path("data"), validate_default=True)
    first_day: date = Field(date(2024, 1, 1), ge=EARLIEST)
    """The first Dagster partition: no day before it can be loaded. Days of 1970 hold no usage, but
    what stands apart (`pipeline.apart`)."""
    lookback_days: int = Field(3, ge=0, le=366)
    """How many days before today the hourly schedule asks for again."""
    daily_lookback_days: int = Field(31, ge=0, le=366)
    concurrency: int = Field(4, ge=1, le=64)
    """Requests in flight at once."""
    retry_seconds: float = Field(120.0, ge=0, allow_inf_nan=False)
    """How long one request may be waited and tried for before it is given up."""
    request_timeout: float = Field(60.0, gt=0, allow_inf_nan=False)
    """Seconds that one answer may take before a smaller one is asked for."""
    max_answer_mb: int = Field(32, ge=1, le=4_096)
    """The largest answer that is taken in, in MiB; a larger one is asked for in parts."""
    endpoints: Endpoints = (CONVERSATIONS.name,)
    """The usage endpoints that are loaded, in the order of ENDPOINTS."""
    store_content: bool = False
    """Whether what items say is landed too, in a dataset of its own; else only its length is."""
    pseudonym_key: PseudonymKey | None = None
    """What user ids are hashed with before anything is written; as they are, where it is None."""
    serve_keys: Secrets = ()
    """The bearer keys that `mka1-usage serve` lets in; with none, it serves this machine only."""
    alert_late_minutes: int = Field(150, ge=1, le=525_600)
    """How far behind now the lake may be: what the hourly schedule keeps, missing a run once."""
    alert_baseline_days: int = Field(28, ge=7, le=366)
    """How many days before make what is usual."""
    alert_spike_times: float = Field(3.0, gt=1, allow_inf_nan=False)
    """So many times its usual peak is far above it."""
    alert_spike_operations: int = Field(100, ge=1, le=2**53)
    """Fewer operations than this in a bucket never alert."""
    alert_spike_tokens: int = Field(1_000_000, ge=1, le=2**53)
    """Fewer tokens than this in a bucket never alert."""
    alert_spike_cost: Decimal = Field(Decimal(10), gt=0, lt=10**9, decimal_places=9)
    """What costs less than this in a bucket, in any currency, never alerts."""
    alert_failed_percent: float = Field(20.0, gt=0, le=100)
    """A smaller share of failed responses never alerts."""
    alert_failed_responses: int = Field(10, ge=1, le=2**53)
    """Fewer failed responses than this never alert."""
    alert_zero_usual: int = Field(100, ge=1, le=2**53)
    """What hours usually have at least, for none in them to be an alert."""
    memory: Memory | None = None
    """Bytes that all queries of a process may use together; None: as `pipeline.memory` says."""
    set_dagster_home: Folder | None = Field(None, validation_alias="DAGSTER_HOME")
    set_export_dir: TablesFolder | None = Field(None, validation_alias="MKA1_USAGE_EXPORT_DIR")
    set_prices: Folder | None = Field(None, validation_alias="MKA1_USAGE_PRICES")
    set_budgets: Folder | None = Field(None, validation_alias="MKA1_USAGE_BUDGETS")
    set_names: Folder | None = Field(None, validation_alias="MKA1_USAGE_NAMES")
    export_names: Folder | None = None
    """A CSV with names for exports alone: what there was before `names`."""
    export_readable_by: Literal["owner", "group", "all"] = "owner"
    """Who may read exported files."""

    @field_validator("daily_lookback_days")
    @classmethod
    def _within_hours(cls, days: int, info: ValidationInfo) -> int:
        hours = info.data.get("keep_hours_days")
        if hours is not None and days > hours:
            raise ValueError(
                f"is {days}, and MKA1_USAGE_KEEP_HOURS_DAYS is {hours}: that window goes by hours, "
                f"so set it to {hours} or less"
            )
        return days

    @field_validator("pseudonym_key")
    @classmethod
    def _names_nobody(cls, key: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if key is not None and info.data.get("store_content"):
            raise ValueError(
                "is set together with MKA1_USAGE_STORE_CONTENT=true: what people say names them, "
                "so set one of the two"
            )
        return key

    @property
    def lake(self) -> Path:
        """The folder of the Parquet files."""
        return self.home / "lake"

    @property
    def catalog(self) -> Path:
        """The DuckDB file of views over the lake."""
        return self.home / "usage.duckdb"

    @property
    def thresholds(self) -> Thresholds:
        """What the alerts measure against."""
        return Thresholds(
            late_minutes=self.alert_late_minutes,
            baseline_days=self.alert_baseline_days,
            spike_times=self.alert_spike_times,
            spike_operations=self.alert_spike_operations,
            spike_tokens=self.alert_spike_tokens,
            spike_cost=self.alert_spike_cost,
            failed_percent=self.alert_failed_percent,
            failed_responses=self.alert_failed_responses,
            zero_usual=self.alert_zero_usual,
            watched_days=self.daily_lookback_days,
        )

    @property
    def dagster_home(self) -> Path:
        """Where Dagster keeps its runs: DAGSTER_HOME, else below the home folder."""
        return self.set_dagster_home or self.home / "dagster"

    @property
    def export_dir(self) -> Path:
        """Where exports go: MKA1_USAGE_EXPORT_DIR, else below the home folder."""
        return self.set_export_dir or self.home / "export"

    @property
    def prices(self) -> Path:
        """The price list: MKA1_USAGE_PRICES, else in the home folder, where there need be none."""
        return self.set_prices or self.home / "prices.csv"

    @property
    def budgets(self) -> Path:
        """The budgets: MKA1_USAGE_BUDGETS, else in the home folder, where there need be none."""
        return self.set_budgets or self.home / "budgets.csv"

    @property
    def names(self) -> Path:
        """The names: MKA1_USAGE_NAMES, else in the home folder, where there need be none."""
        return self.set_names or self.home / "names.csv"

    @property
    def pseudonyms(self) -> Pseudonyms | None:
        """What users are called in all that is written; None: as the API calls them."""
        return None if self.pseudonym_key is None else Pseudonyms(self.pseudonym_key)

    def key(self) -> SecretStr:
        """The key that usage is read with; SettingsError where none is set."""
        if self.api_key is None:
            raise SettingsError(
                "MKA1_API_KEY is not set: set it to the key that usage is to be read with, "
                "in the environment or in .env"
            )
        return self.api_key

    def keys(self) -> dict[str, SecretStr]:
        """Secrets by key id, for what is listed per key: MKA1_API_KEYS, and the key for usage."""
        if self.api_key is None or self.api_key_id is None:
            return dict(self.api_keys)
        return {self.api_key_id: self.api_key, **self.api_keys}


_ALIASES: Final[Mapping[str, str]] = {
    name: str(field.validation_alias) for name, field in Settings.model_fields.items()
}

_SECRET: Final = frozenset(
    _ALIASES[name]
    for name, field in Settings.model_fields.items()
    if _holds(field.annotation, SecretStr)
)


def without_secrets(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment for other programs: none of them needs a key of ours."""
    return {name: value for name, value in environment.items() if name.upper() not in _SECRET}


def _variable(location: tuple[int | str, ...]) -> str:
    """What a complaint is about: pydantic names a default by its field, a value by its alias."""
    name = str(location[0]) if location else "settings"
    return _ALIASES.get(name, name)


def load_settings(**overrides: Any) -> Settings:
    """The settings from the environment and `.env`; `overrides` (by field name) win.

    Raises SettingsError with one line that names the first bad setting, never its value.
    """
    try:
        # By alias only: a field's own name would let the variable HOME set the home folder.
        return Settings(**{_ALIASES[name]: value for name, value in overrides.items()})
    except ValidationError as error:
        wrong = {
            _variable(one["loc"]): one["msg"]
            for one in error.errors(include_url=False, include_context=False, include_input=False)
        }
        wrong = {name: reason.removeprefix("Value error, ") for name, reason in wrong.items()}
        name, reason = next(iter(wrong.items()))
        raise SettingsError(f"{name}: {reason}", wrong) from None
    except UnicodeDecodeError:
        raise SettingsError(".env is not UTF-8 text") from None
    except OSError as error:
        raise SettingsError(f".env cannot be read: {error.strerror}") from None


_LIKE: Final = 0.6
_SURE: Final = 0.9
"""How like a setting a name is that is meant for it, where others may have names of their own."""


def misspelt(names: Iterable[str]) -> dict[str, str | None]:
    """Names of variables that look like a setting and are none, each with the nearest setting.

    All that begin with MKA1_USAGE_ are; of others, those that differ from a setting in a letter
    or so. MKA1_API_KEY_2 does not: a number marks a name of somebody's own.
    """
    settings = set(_ALIASES.values())
    found: dict[str, str | None] = {}
    for name in sorted(names):
        upper = name.upper()
        if upper in settings:
            continue
        if upper.startswith(_OURS):  # what follows is compared: the beginning is alike in all
            found[name] = None
            ours = [one.removeprefix(_OURS) for one in settings if one.startswith(_OURS)]
            for near in difflib.get_close_matches(upper.removeprefix(_OURS), ours, 1, _LIKE):
                found[name] = _OURS + near
        elif re.sub(r"_?\d+$", "", upper) not in settings:
            theirs = [one for one in settings if one.startswith("MKA1_")]
            for near in difflib.get_close_matches(upper, theirs, 1, _SURE):
                found[name] = near
    return found
