"""Are the settings what was meant? All complaints at once, and misspelt names."""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from dotenv.parser import Binding, parse_stream

from pipeline.doctor.finding import CheckContext, Finding, failed, ok, warning
from pipeline.settings import ENV_FILE, Settings, SettingsError, load_settings, misspelt

_FIELDS: Final = {str(of.validation_alias): name for name, of in Settings.model_fields.items()}
"""The name of each setting's field, by its variable."""
_CATALOG: Final = "MKA1_USAGE_CATALOG"
_NEEDS: Final = {
    "MKA1_USAGE_WAREHOUSE": _CATALOG,
    "MKA1_USAGE_MAIL_TO": "MKA1_USAGE_SMTP_URL",
}
"""Settings whose default is wrong beside another one: without the other, it is right."""
_SECRETIVE: Final = re.compile(
    r"PASSWORD|SECRET|TOKEN|API_KEY$|PSEUDONYM_KEY$|WEBHOOK(_URL)?$|SMTP_URL$|APPRISE_URLS$"
)
_SHORTEST_SECRET: Final = 6
"""Characters. Shorter ones would be found in words that are none."""


def check_context(
    environment: Mapping[str, str],
    *,
    deep: bool = False,
    patience: float = 10.0,
    env_file: Path = Path(ENV_FILE),
) -> CheckContext:
    """What the checks are given, whatever is wrong with the settings; `.env` is the current
    folder's."""
    loaded, wrong = _loaded()
    both = {**_values(_lines(env_file)), **environment}
    return CheckContext(
        loaded, wrong, environment, env_file.absolute(), _secrets(both), deep, patience
    )


def _loaded() -> tuple[Settings, Mapping[str, str]]:
    """The settings, defaults in place of those that are wrong, and what is wrong with these."""
    wrong: dict[str, str] = {}
    while True:  # one that is held against another is complained of once that one is right
        unset = {*wrong, *(_NEEDS[name] for name in wrong if name in _NEEDS)}
        fields = {_FIELDS[name]: Settings.model_fields[_FIELDS[name]] for name in unset}
        defaults = {
            name: field.get_default(call_default_factory=True, validated_data={})
            for name, field in fields.items()
        }
        try:
            return load_settings(**defaults), wrong
        except SettingsError as error:
            if not error.wrong:  # `.env` can't be read, so nothing is known of any setting
                unknown = dict.fromkeys(_FIELDS, "")
                return Settings.model_construct(), unknown | {ENV_FILE: str(error)}
            wrong |= error.wrong


def _lines(path: Path) -> list[Binding] | None:
    """The lines of `.env`; None where it can't be read."""
    try:
        return list(parse_stream(StringIO(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError):  # the settings' own complaint
        return None


def _values(lines: list[Binding] | None) -> dict[str, str]:
    return {line.key: line.value for line in lines or () if line.key and line.value is not None}


def _secrets(variables: Mapping[str, str]) -> dict[str, str]:
    """What must not be quoted, by the variable that it comes from; the parts of a ring of keys."""
    whole = [(name, value) for name, value in variables.items() if _SECRETIVE.search(name.upper())]
    ring = variables.get("MKA1_API_KEYS", "").split(",")
    parts = [("MKA1_API_KEYS", entry.partition("=")[2] or entry) for entry in ring]
    with suppress(ValueError):  # no URL at all
        password = urlsplit(variables.get(_CATALOG, "")).password or ""
        parts += [(_CATALOG, it) for it in (password, unquote(password))]
    return {
        value.strip(): f"the value of {name}"
        for name, value in [*whole, *parts]
        if len(value.strip()) >= _SHORTEST_SECRET
    }


def settings(context: CheckContext) -> Iterator[Finding]:
    """What is malformed, needed and not set, set twice, or looks like a slip of the pen."""
    for name, complaint in context.wrong.items():
        if complaint:
            yield failed(f"{name}: {complaint}", "set it right, or unset it")
    lines = _lines(context.env_file)
    in_file, outside = _values(lines), context.environment
    if not context.wrong:
        names = {name for name in (*in_file, *outside) if name in _FIELDS}
        words = f"{len(names)} of {len(_FIELDS)} are set, the others have their defaults"
        if context.settings.api_key is None:
            yield failed(
                f"MKA1_API_KEY is not set ({words})",
                "set it to the key that usage is to be read with, in the environment or in .env",
            )
        else:
            yield ok(words)
    for name, near in misspelt({*in_file, *outside}).items():
        yield warning(
            f"{name} is no setting, so it is ignored",
            f"is it {near} that is meant?" if near else "unset it, or see docs/settings.md",
        )
    for name in sorted(_FIELDS):
        if in_file.get(name) and outside.get(name) and in_file[name] != outside[name]:
            yield warning(
                f"{name} is one thing in .env and another in the environment, which counts",
                f"unset {name}, or take it out of .env",
            )
    if lines is not None:
        yield from _env_file(context.env_file, lines)


def _env_file(path: Path, lines: list[Binding]) -> Iterator[Finding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield warning(
            f"others on this machine can get at it, keys and all (mode {mode:04o})",
            f"chmod 600 {shlex.quote(str(path))}",
            subject=ENV_FILE,
        )
    for line in lines:
        if line.error:
            yield warning(
                f"line {line.original.line} is not NAME=value, so it is ignored",
                "write NAME=value, and what has spaces or # in quotes",
                subject=ENV_FILE,
            )
