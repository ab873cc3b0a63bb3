"""A published day with other files of some of its datasets: its manifest and its coverage anew."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

from pyiceberg.io import FileIO

from pipeline.lake.files import check_contract
from pipeline.lake.manifest import Manifest, describe, recount_coverage, write_manifest
from pipeline.lake.schemas import COVERAGE, DATASETS
from pipeline.lake.store import MANIFEST
from pipeline.shared_lake import storage
from pipeline.shared_lake.locations import location_of


def rewritten(
    io: FileIO,
    root: str,
    day: date,
    manifest: Manifest,
    files: Mapping[str, Path],
    folder: Path,
) -> tuple[str, dict[str, Path]] | None:
    """The day's manifest with these files, word by word, and all files that are new.

    None where the day has them already. `folder` is for scratch. ContractError where a file is not
    of the contract.
    """
    for name, path in files.items():
        check_contract(DATASETS[name], path)
    entries = {name: describe(DATASETS[name], path) for name, path in files.items()}
    changed = {name: it for name, it in entries.items() if manifest.files.get(name) != it}
    if not changed:
        return None
    old, new = folder / "before.parquet", folder / f"{COVERAGE.name}.parquet"
    known = manifest.files[COVERAGE.name]
    there = location_of(root, COVERAGE.name, day, known.sha256)
    storage.get(io, there, old, known.sha256)
    recount_coverage(day, old, {name: files[name] for name in changed}, new)
    changed[COVERAGE.name] = describe(COVERAGE, new)
    write_manifest(folder, replace(manifest, files={**manifest.files, **changed}))
    text = (folder / MANIFEST).read_text(encoding="utf-8")
    return text, {**files, COVERAGE.name: new}
