"""`docs/contributing.md` and its neighbours keep their word: what they name exists.

A path, a module, a name in a module, a command, a setting, an option of the tests, a heading that a
link leads to. What the steps say to do is for people to judge.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path
from typing import Final

import pytest

from pipeline.cli import app
from pipeline.settings import Settings
from tests.documented import blocks

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "pipeline"
DOCS: Final = ROOT / "docs"
PAGE: Final = (DOCS / "contributing.md").read_text(encoding="utf-8")
PAGES: Final = ("api.md", "changelog.md", "contributing.md", "design.md")
COMMANDS: Final = {
    it.callback.__name__.replace("_", "-") for it in app.registered_commands if it.callback
} | {str(group.name) for group in app.registered_groups}
SETTINGS: Final = {str(field.validation_alias) for field in Settings.model_fields.values()}
REMOVED: Final = {"MKA1_USAGE_ALERT_REQUESTS_PER_DAY", "MKA1_USAGE_ALERT_QUOTA_PERCENT"}
"""Settings that the changelog says are gone."""
PLACES: Final = ("pipeline", "sql", "tests", "docs", ".ci")


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def paths(text: str) -> list[str]:
    """The paths between backticks that begin with a folder of this repository."""
    names = re.findall(r"`((?:[\w.-]+/)*[\w.-]+)`", text)
    inside = [name for name in names if name.split("/")[0] in PLACES]
    return sorted({name for name in inside if "/" in name or name in PLACES})


def defined(path: Path) -> set[str]:
    """The names that a module defines, in its classes and functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def anchor(heading: str) -> str:
    """What GitHub makes of a heading in a link."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(page: str) -> set[str]:
    return {anchor(it) for it in re.findall(r"^#+ (.+)$", page, re.MULTILINE)}


def name_and_module(text: str) -> list[tuple[str, str]]:
    """Each "`name` in `pipeline/module.py`" of a page."""
    flat = " ".join(text.split())
    return re.findall(r"`(\w+)` in `(pipeline/[\w/]+\.py)`", flat)


@pytest.mark.parametrize(
    ("page", "path"), [(page, path) for page in PAGES for path in paths(text_of(page))]
)
def test_a_path_that_a_page_names_exists(page: str, path: str) -> None:
    assert (ROOT / path).exists(), f"{page} names {path}"


@pytest.mark.parametrize(("name", "module"), name_and_module(PAGE))
def test_a_name_stands_in_the_module_that_the_page_says(name: str, module: str) -> None:
    assert name in defined(ROOT / module)


def test_the_page_ties_names_to_modules() -> None:
    assert len(name_and_module(PAGE)) >= 6
    assert len(paths(PAGE)) >= 40


def the_map() -> dict[str, list[str]]:
    """What the map names, by package or module: of a package, the modules that it lists."""
    section = PAGE.split("## The map\n")[1].split("\n## ")[0]
    lines = " ".join(section.split()).split(" - ")[1:]
    listed: dict[str, list[str]] = {}
    for line in lines:
        places, _, words = line.partition(": ")
        for place in re.findall(r"`([\w./]+)`", places):
            listed[place] = re.findall(r"`(\w+)`", words)
    return listed


def test_the_map_has_every_package() -> None:
    packages = {f"pipeline/{path.parent.name}" for path in PACKAGE.glob("*/__init__.py")}
    mapped = {place for place in the_map() if (ROOT / place).is_dir() and "/" in place}
    assert packages == mapped
    assert len(LISTED) >= 30


LISTED: Final = [
    (place, name)
    for place, names in the_map().items()
    if place.startswith("pipeline/")
    for name in names
]


@pytest.mark.parametrize(("package", "module"), LISTED)
def test_a_module_of_the_map_exists(package: str, module: str) -> None:
    folder = ROOT / package
    assert (folder / f"{module}.py").is_file() or (folder / module).is_dir()


@pytest.mark.parametrize("page", PAGES)
def test_commands_and_settings_that_a_page_names_exist(page: str) -> None:
    text = text_of(page)
    assert set(re.findall(r"`mka1-usage ([a-z][a-z-]*)", text)) <= COMMANDS
    named = set(re.findall(r"`(MKA1_[A-Z_]+[A-Z])`", text))
    assert named <= SETTINGS | (REMOVED if page == "changelog.md" else set())


def test_what_is_said_to_be_removed_is() -> None:
    assert not REMOVED & SETTINGS


def test_the_programs_of_the_loop_are_installed_and_the_options_of_the_tests_known(
    pytestconfig: pytest.Config,
) -> None:
    named = set(re.findall(r"\.venv/bin/([\w-]+)", PAGE))
    assert {"ruff", "mypy", "pytest", "lint-imports", "mka1-usage"} <= named
    missing = {it for it in named - {"pip"} if not (Path(sys.executable).parent / it).exists()}
    assert not missing
    for option in ("--slow", "--long"):
        assert f"loadfile {option}`" in PAGE
        pytestconfig.getoption(option)


def test_the_set_up_installs_what_the_readme_installs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for line in blocks(PAGE, "bash")[0].splitlines():
        assert line in readme


def test_the_contracts_of_the_layers_stand_in_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["importlinter"]["contracts"]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_page_and_a_heading(page: str) -> None:
    text = text_of(page)
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", text)
    assert links or page == "changelog.md"
    for target, heading in links:
        if target.startswith("http"):
            continue
        found = DOCS / target if target else DOCS / page
        assert found.is_file(), f"{page} links to {target}"
        if heading:
            assert heading in anchors(found.read_text(encoding="utf-8")), f"{page}: {heading}"


CITED: Final = sorted(
    (path.relative_to(ROOT).as_posix(), page, heading.strip('"'))
    for folder in ("pipeline", "sql", "tests")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".sql"} and path != Path(__file__)
    for page, heading in re.findall(
        r'docs/(api|design)\.md, ("[^"\n]+"|\w+)', path.read_text(encoding="utf-8")
    )
)


def test_there_are_citations() -> None:
    assert len(CITED) >= 4


@pytest.mark.parametrize(("path", "page", "heading"), CITED)
def test_a_heading_that_code_cites_is_there(path: str, page: str, heading: str) -> None:
    assert anchor(heading) in anchors(text_of(f"{page}.md")), f"{path} cites {heading}"


@pytest.mark.parametrize("page", PAGES)
def test_no_line_is_too_long(page: str) -> None:
    assert [line for line in text_of(page).splitlines() if len(line) > 120] == []
