"""What users, keys and teams are called in a report: no two ids of a kind by the same name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pipeline.names.file import Names

if TYPE_CHECKING:  # figures calls this
    from pipeline.report.figures import Figures, Ranking
    from pipeline.report.spending import Spending

_KINDS: Final = ("user", "key", "team")


def named(figures: Figures, names: Names) -> Figures:
    """The same figures, with a name for each id that has one."""
    if not names.rows:
        return figures
    found = {kind: names.labels(kind, _ids(figures, kind)) for kind in _KINDS}

    def of(kind: str, id_: str | None) -> str | None:
        label = None if id_ is None else found[kind].get(id_)
        return None if label == id_ else label

    def ranking(kind: str, one: Ranking) -> Ranking:
        return one._replace(top=[it._replace(name=of(kind, it.id)) for it in one.top])

    def spending(one: Spending) -> Spending:
        return replace(
            one,
            users=[it._replace(name=of("user", it.id)) for it in one.users],
            teams=[it._replace(name=of("team", it.id)) for it in one.teams],
            unlisted=[it._replace(name=of("key", it.key)) for it in one.unlisted],
        )

    people = {
        name: [it._replace(name=of("user", it.id)) for it in top]
        for name, top in figures.people.top.items()
    }
    return replace(
        figures,
        users=ranking("user", figures.users),
        keys=ranking("key", figures.keys),
        teams=figures.teams and ranking("team", figures.teams),
        people=replace(figures.people, top=people),
        spending=figures.spending and spending(figures.spending),
        called={kind: found[kind][id_] for kind, id_ in _only(figures).items() if kind in found},
    )


def _only(figures: Figures) -> dict[str, str]:
    """What the report is of, by kind, where it is not of all."""
    return {kind: id_ for kind, id_ in figures.only._asdict().items() if id_ is not None}


def _ids(figures: Figures, kind: str) -> set[str]:
    """The ids of a kind that are shown."""
    spending = figures.spending
    found: list[str | None] = [_only(figures).get(kind)]
    if kind == "user":
        found += [one.id for one in figures.users.top]
        found += [one.id for top in figures.people.top.values() for one in top]
        found += [one.id for one in spending.users] if spending else []
    elif kind == "key":
        found += [one.id for one in figures.keys.top]
        found += [one.key for one in spending.unlisted] if spending else []
    elif figures.teams is not None:
        found += [one.id for one in figures.teams.top]
        found += [one.id for one in spending.teams] if spending else []
    return {id_ for id_ in found if id_ is not None}
