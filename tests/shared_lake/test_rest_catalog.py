"""A shared lake in an Iceberg REST catalog: one request a commit, where it has such a request."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("pyiceberg", reason="the shared lake needs the extra `shared`")

from pipeline.lake.store import Lake
from pipeline.shared_lake import (
    DaysMovedError,
    Place,
    SharedLakeError,
    committing,
    open_shared_lake,
)
from pipeline.shared_lake.catalogs import SharedSqlCatalog
from pipeline.timeline import DAY
from tests.shared_lake.rest_catalog import Behaviour, rest_catalog
from tests.shared_lake.shared import (
    DAYS,
    age,
    content,
    loaded,
    reload,
    restated,
    small_world,
)


@pytest.fixture
def behaviour() -> Behaviour:
    return Behaviour()


@pytest.fixture
def remote(place: Place, behaviour: Behaviour) -> Iterator[Place]:
    """A REST catalog over SQLite, and a folder."""
    with rest_catalog(SharedSqlCatalog("mka1_usage", uri=place.catalog), behaviour) as url:
        yield Place(url, place.warehouse)


@pytest.mark.parametrize("transactions", [True, False])
def test_days_travel_and_stale_commits_are_refused(
    remote: Place, behaviour: Behaviour, tmp_path: Path, transactions: bool
) -> None:
    behaviour.transactions = transactions
    of = small_world()
    one, other = loaded(tmp_path / "one", of), Lake(tmp_path / "other" / "lake")
    shared = open_shared_lake(remote)
    assert shared.commit(one) == DAYS
    if not transactions:  # coverage after all other tables of readers, then what orders all
        named = [path.rpartition("/")[2] for path in behaviour.asked]
        assert [name for name in named if name != "tables"][-2:] == ["coverage", "published_days"]
    assert shared.commits_together == transactions
    assert shared.hydrate(other) == DAYS
    assert all(content(one, day) == content(other, day) for day in DAYS)
    reload(one, restated(of, DAYS[0]), DAYS)
    reload(other, restated(of, DAYS[0]), DAYS)
    behaviour.asked.clear()
    assert shared.commit(one) == DAYS[:1]
    if transactions:
        assert behaviour.asked == ["POST /v1/transactions/commit"]
    with pytest.raises(DaysMovedError):
        shared.commit(other)
    assert list(shared.verify()) == []


def test_a_commit_that_ended_half_way_is_healed_by_the_next(
    remote: Place, behaviour: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As catalogs can end it that commit one table after the other."""
    behaviour.transactions = False
    of = small_world()
    one, other = loaded(tmp_path / "one", of), Lake(tmp_path / "other" / "lake")
    shared = open_shared_lake(remote)
    shared.commit(one)
    shared.hydrate(other)
    reload(one, restated(of, DAYS[0]), DAYS[:1])
    behaviour.fail_after = 2
    monkeypatch.setattr(committing, "_TRIES", 3)
    with pytest.raises(SharedLakeError, match="another worker was faster"):
        shared.commit(one)
    assert list(shared.verify()) != []
    behaviour.fail_after = None
    there = Lake(tmp_path / "there" / "lake")
    shared.hydrate(there)  # the day as it stood, whole
    assert content(there, DAYS[0]) == content(other, DAYS[0])
    reload(other, restated(of, DAYS[0], 1), DAYS[:1])
    assert shared.commit(other) == DAYS[:1]
    assert list(shared.verify()) == []


def test_expire_keeps_what_a_commit_that_ended_half_way_has_replaced(
    remote: Place, behaviour: Behaviour, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tables refer to it no more, but the manifest of the day does."""
    behaviour.transactions = False
    of = small_world(1)
    one, other = loaded(tmp_path / "one", of, DAYS[:1]), Lake(tmp_path / "other" / "lake")
    shared = open_shared_lake(remote)
    shared.commit(one)
    shared.hydrate(other)
    reload(one, restated(of, DAYS[0]), DAYS[:1])
    behaviour.fail_after = 5
    monkeypatch.setattr(committing, "_TRIES", 1)
    with pytest.raises(SharedLakeError, match="another worker was faster"):
        shared.commit(one)
    behaviour.fail_after = None
    age(Path(remote.warehouse), 2 * DAY)
    assert shared.expire(time.time() + 2 * DAY).snapshots > 0
    there = Lake(tmp_path / "there" / "lake")
    shared.hydrate(there)
    assert content(there, DAYS[0]) == content(other, DAYS[0])
