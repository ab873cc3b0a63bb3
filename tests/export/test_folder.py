"""The export's folder: what is replaced, what is left alone, and what a reader sees meanwhile."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.export import folder
from pipeline.export.folder import MANIFEST, FolderError, Readers, Replaced, opened

A, B, PAGE = "a.parquet", "b/day=2024-01-01/b.parquet", "PAGE.md"


def put(
    path: Path, files: dict[str, bytes], readers: Readers = "owner", **facts: object
) -> Replaced:
    """An export of these files."""
    with opened(path, readers) as one:
        staged = {}
        for place, (name, content) in enumerate(files.items()):
            staged[name] = one.staging / f"{place}.part"
            staged[name].write_bytes(content)
        return one.replace(staged, facts)


def there(path: Path) -> dict[str, bytes]:
    """The files that a reader sees, without the manifest."""
    found = (file for file in path.rglob("[!.]*") if file.is_file() and file.name != MANIFEST)
    return {str(file.relative_to(path)): file.read_bytes() for file in found}


def manifest(path: Path) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((path / MANIFEST).read_bytes())
    return said


def test_an_export_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder"
    assert put(path, {A: b"1", B: b"1"}) == Replaced(2, 0, 0)
    assert put(path, {A: b"1", PAGE: b"2"}) == Replaced(1, 1, 1)
    assert there(path) == {A: b"1", PAGE: b"2"}
    assert not (path / "b").exists(), "a folder that is empty now is gone"
    assert manifest(path)["complete"] is True
    assert list(manifest(path)["files"]) == [A, PAGE]


def test_what_an_export_in_another_format_wrote_stays(tmp_path: Path) -> None:
    put(tmp_path, {A: b"1", B: b"1", PAGE: b"parquet"})
    other = put(tmp_path, {"a.csv": b"2", "b.csv": b"2", PAGE: b"csv"})
    assert (other.removed, sorted(other.kept)) == (0, [A, B])
    assert there(tmp_path) == {A: b"1", B: b"1", "a.csv": b"2", "b.csv": b"2", PAGE: b"csv"}
    assert list(manifest(tmp_path)["files"]) == ["a.csv", "b.csv", PAGE]
    third = put(tmp_path, {"all.duckdb": b"3"})
    assert sorted(third.kept) == [PAGE, "a.csv", A, "b.csv", B]
    again = put(tmp_path, {A: b"4", PAGE: b"parquet"})
    assert (again.removed, sorted(again.kept)) == (1, ["a.csv", "all.duckdb", "b.csv"])
    assert there(tmp_path) == {
        **{A: b"4", PAGE: b"parquet", "all.duckdb": b"3"},
        **dict.fromkeys(("a.csv", "b.csv"), b"2"),
    }


def test_what_stays_of_another_format_is_written_over_by_its_next_export(tmp_path: Path) -> None:
    put(tmp_path, {A: b"1"})
    put(tmp_path, {"a.csv": b"2"})
    (tmp_path / A).unlink()
    assert put(tmp_path, {"a.csv": b"3"}).kept == ()
    put(tmp_path, {A: b"4"})
    assert there(tmp_path) == {A: b"4", "a.csv": b"3"}


def test_the_same_export_again_touches_no_file(tmp_path: Path) -> None:
    put(tmp_path, {A: b"1", B: b"1"}, first="2024-01-01")

    def marks() -> dict[Path, tuple[int, int]]:
        files = (file for file in tmp_path.rglob("[!.]*") if file.is_file())
        return {file: (file.stat().st_ino, file.stat().st_mtime_ns) for file in files}

    before = marks()
    assert put(tmp_path, {A: b"1", B: b"1"}, first="2024-01-01") == Replaced(0, 2, 0)
    assert marks() == before


def test_what_others_put_there_stays(tmp_path: Path) -> None:
    put(tmp_path, {A: b"1", B: b"1"})
    for name in ("report.pbix", "b/notes.txt", "b/day=2024-01-01/mine.parquet", ".hidden"):
        (tmp_path / name).write_bytes(b"mine")
    put(tmp_path, {"c.parquet": b"2"})
    mine = ("report.pbix", "b/notes.txt", "b/day=2024-01-01/mine.parquet")
    assert there(tmp_path) == {"c.parquet": b"2", **dict.fromkeys(mine, b"mine")}
    assert (tmp_path / ".hidden").exists()


@pytest.mark.parametrize("name", ["thesis.docx", ".profile", A, MANIFEST])
def test_a_folder_with_other_things_is_refused_and_left_as_it_is(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(
        FolderError, match=r"holds other things and no export \(.*\): name an empty"
    ):
        put(tmp_path, {A: b"1"})
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"{}"


def test_a_file_of_somebody_else_is_not_written_over(tmp_path: Path) -> None:
    put(tmp_path, {A: b"1"})
    (tmp_path / PAGE).write_bytes(b"mine")
    with pytest.raises(FolderError, match=r"PAGE\.md was not written by an export: move it away"):
        put(tmp_path, {A: b"2", PAGE: b"2"})
    assert there(tmp_path) == {A: b"1", PAGE: b"mine"}


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "x/../../outside", ".bashrc"])
def test_a_manifest_that_was_tampered_with_removes_nothing(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    path = tmp_path / "folder"
    put(path, {A: b"1"})
    said = manifest(path) | {"files": {name: {}}}
    (path / MANIFEST).write_text(json.dumps(said))
    with pytest.raises(FolderError):
        put(path, {PAGE: b"2"})
    assert outside.exists()
    assert there(path) == {A: b"1"}


@pytest.mark.parametrize("dies_at", range(1, 7))
def test_whoever_is_killed_leaves_whole_files_and_the_next_export_goes_on(
    tmp_path: Path, dies_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of the renames and removals in turn; then an export of something else."""
    old = {A: b"old", B: b"old", "c.parquet": b"old"}
    put(tmp_path, old)
    steps = 0

    class KilledError(Exception):
        pass

    def dying(real: Any) -> Any:
        def step(*args: Any, **options: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == dies_at:
                raise KilledError
            return real(*args, **options)

        return step

    new = {A: b"new", B: b"new", PAGE: b"new"}
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", dying(Path.replace))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        with pytest.raises(KilledError):
            put(tmp_path, new)
    found = there(tmp_path)
    assert set(found.values()) <= {b"old", b"new"}
    assert set(found) <= {A, B, PAGE, "c.parquet"}
    assert found == old or not manifest(tmp_path)["complete"]
    put(tmp_path, {"d.parquet": b"other", PAGE: b"other"})
    assert there(tmp_path) == {"d.parquet": b"other", PAGE: b"other"}


def test_whoever_is_killed_in_the_first_export_leaves_a_folder_to_export_to(tmp_path: Path) -> None:
    with opened(tmp_path) as one:
        (one.staging / "0.part").write_bytes(b"1")
        one.staging.rename(tmp_path / "kept")
    (tmp_path / "kept").rename(tmp_path / folder._STAGING)
    put(tmp_path, {A: b"1"})
    assert there(tmp_path) == {A: b"1"}
    assert not (tmp_path / folder._STAGING).exists()


def test_two_exports_do_not_mix(tmp_path: Path) -> None:
    with (
        opened(tmp_path),
        pytest.raises(FolderError, match=r"another export is writing to .*: run again when it is"),
        opened(tmp_path),
    ):
        pass
    put(tmp_path, {A: b"1"})


def test_what_is_under_way_is_called_nothing_that_a_reader_looks_for(tmp_path: Path) -> None:
    put(tmp_path, {A: b"1"})
    with opened(tmp_path) as one:
        (one.staging / "b.part").write_bytes(b"half")
        assert {path.name for path in tmp_path.rglob("*.parquet")} == {A}


@pytest.mark.parametrize(
    ("readers", "file", "inner"),
    [("owner", 0o600, 0o700), ("group", 0o640, 0o750), ("all", 0o644, 0o755)],
)
@pytest.mark.parametrize("umask", [0o077, 0o000])
def test_who_may_read_is_who_was_named(
    tmp_path: Path, readers: Readers, file: int, inner: int, umask: int
) -> None:
    path = tmp_path / "folder"
    before = os.umask(umask)
    try:
        put(path, {A: b"1", B: b"1"})
        put(path, {A: b"1", B: b"1"}, readers)
    finally:
        os.umask(before)
    for name in (A, B, MANIFEST):
        assert (path / name).stat().st_mode & 0o777 == file
    for name in ("b", "b/day=2024-01-01", "."):
        assert (path / name).stat().st_mode & 0o777 == inner


def test_a_folder_that_others_use_too_keeps_what_they_may_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o2775)
    put(tmp_path, {A: b"1"})
    assert tmp_path.stat().st_mode & 0o7777 == 0o2775
