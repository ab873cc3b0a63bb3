"""A message as text, for terminals and mail, and as HTML without pictures, scripts or links."""

from __future__ import annotations

from functools import cache
from importlib import resources

from jinja2 import Environment, StrictUndefined, Template

from pipeline.notify.message import Message, Part


def as_text(message: Message) -> str:
    """Title and parts, each with its command on a line of its own, to be copied."""
    return "\n\n".join([message.title, *map(_text, message.parts)]) + "\n"


def as_html(message: Message) -> str:
    """A page that mail programs show: a table and inline styles alone."""
    return _page().render(message=message)


def _text(part: Part) -> str:
    return "\n".join([part.heading, *(f"  {line}" for line in part.lines), *_command(part)])


def _command(part: Part) -> list[str]:
    return [f"  $ {part.command}"] if part.command else []


@cache
def _page() -> Template:
    text = resources.files(__package__).joinpath("mail.html").read_text(encoding="utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    return environment.from_string(text)
