"""What a shell completes: commands, options, and the values of those that take a choice."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

from pipeline.cli import app
from tests.bounded import finished

MAIN = (
    "import sys; sys.argv = ['mka1-usage']; from pipeline.cli import main\n"
    "try: main()\n"
    "except SystemExit: pass\n"
    "print({'dagster', 'duckdb', 'pyarrow'} & set(sys.modules), file=sys.stderr)"
)


def completed(shell: str, line: str) -> tuple[set[str], str]:
    """What `shell` is offered at the end of `line`, and which heavy modules that took."""
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    done = finished(
        [sys.executable, "-c", MAIN],
        env={
            **os.environ,
            **asked,
            "_MKA1_USAGE_COMPLETE": f"complete_{shell}",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        },
    )
    in_zsh = re.findall(r'^(?:_arguments .*\(\()?"([^"]+)"', done.stdout, re.MULTILINE)
    offered = in_zsh if shell == "zsh" else done.stdout.splitlines()
    return {one.partition("\t")[0] for one in offered}, done.stderr.strip()


CASES = [
    ("mka1-usage buckets --width ", {"1m", "1h", "1d"}),
    ("mka1-usage buckets --group-by u", {"user_id"}),
    ("mka1-usage sql --format p", {"parquet"}),
    ("mka1-usage doctor --format ", {"table", "json"}),
    ("mka1-usage ver", {"verify"}),
    ("mka1-usage doctor --d", {"--deep"}),
]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(("line", "offered"), CASES)
def test_a_value_is_completed_and_nothing_heavy_is_imported(
    shell: str, line: str, offered: set[str]
) -> None:
    found, imported = completed(shell, line)
    assert offered <= found
    assert imported == "set()"
    if len(offered) == 1:
        assert found == offered


def test_every_option_that_takes_a_choice_completes_it() -> None:
    import typer

    choices = 0
    for command in vars(typer.main.get_command(app))["commands"].values():
        for param in command.params:
            names = str(getattr(param, "metavar", None) or "").split("|")
            if len(names) > 1:
                choices += 1
                context = typer.Context(command)
                offered = [item.value for item in param.shell_complete(context, "")]
                assert offered == names
    assert choices >= 4
