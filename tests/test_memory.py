"""How much memory queries may use: what the machine, or the container, has of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import memory

GB = 1_000_000_000
MACHINE = 24 * GB
NO_LIMIT_V1 = str(2**63 - 4096)


@pytest.fixture(autouse=True)
def _machine(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"SC_PHYS_PAGES": MACHINE // 1_000, "SC_PAGE_SIZE": 1_000}
    monkeypatch.setattr("os.sysconf", sizes.__getitem__)


CASES = {
    "no control groups": ({}, MACHINE),
    "version 2, no limit": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "max\n"},
        MACHINE,
    ),
    "version 2, a container that sees itself as the root": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": f"{2 * GB}\n"},
        2 * GB,
    ),
    "version 2, the least of all groups above": (
        {
            "proc/self/cgroup": "0::/user.slice/our.service/child\n",
            "sys/fs/cgroup/user.slice/memory.max": f"{3 * GB}\n",
            "sys/fs/cgroup/user.slice/our.service/memory.max": f"{2 * GB}\n",
            "sys/fs/cgroup/user.slice/our.service/child/memory.max": "max\n",
        },
        2 * GB,
    ),
    "version 1, a path that is the host's": (
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/1f\n4:memory:/docker/1f\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GB}\n",
        },
        GB,
    ),
    "version 1, no limit": (
        {
            "proc/self/cgroup": "4:memory:/\n0::/\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": NO_LIMIT_V1,
        },
        MACHINE,
    ),
    "a limit above what the machine has": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": str(99 * GB)},
        MACHINE,
    ),
}


@pytest.mark.parametrize(("files", "expected"), CASES.values(), ids=CASES)
def test_the_least_limit_that_holds_is_what_can_be_had(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert memory.available(tmp_path) == expected


@pytest.mark.parametrize(
    ("there", "expected"),
    [(24 * GB, memory.MOST), (2 * GB, GB), (GB // 10, memory.LEAST)],
)
def test_queries_get_half_of_it_within_bounds(
    there: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda: there)
    assert memory.default_memory.__wrapped__() == expected
