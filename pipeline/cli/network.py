"""What the environment says of the way to the API, said before a command goes there."""

from __future__ import annotations

from pipeline.settings import Settings, SettingsError
from pipeline.terminal import say


def say_route(settings: Settings) -> None:
    """Say through which proxy and by which certificates, where the environment sets any.

    SettingsError where it names some that can't be used.
    """
    from pipeline.api.errors import RouteError
    from pipeline.api.network import route_to

    try:
        words = route_to(settings.base_url).words
    except RouteError as error:
        raise SettingsError(str(error)) from None
    if words:
        say(f"to {settings.base_url}: {words}")
