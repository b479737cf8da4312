"""Errors of commands name options, not arguments of Python."""

import pytest
import typer

from clipreid_kit.cli._command import Command, with_option_names


@pytest.mark.parametrize(
    ("message", "written"),
    [
        (
            "find: min_rate is 2; it has to be below 1.",
            "find: --min-rate is 2; it has to be below 1.",
        ),
        ("pass min_rate= or k=.", "pass --min-rate or k=."),
        ("recipe.yaml: data.min_rate is unknown.", "recipe.yaml: data.min_rate is unknown."),
        ("there is no min_rates, runs/min_rate or min_rate/a.", None),
    ],
)
def test_names_of_several_words_become_options(message, written):
    assert with_option_names(message, ["min_rate", "k"]) == (written or message)


def test_a_command_writes_its_own_options():
    def find(min_rate: float) -> None:
        raise ValueError(f"find: min_rate is {min_rate}, and max_rate is 1.")

    app = typer.Typer()
    app.command(cls=Command)(find)
    with pytest.raises(ValueError, match=r"^find: --min-rate is 2.0, and max_rate is 1\.$"):
        app(["2"], standalone_mode=False)
