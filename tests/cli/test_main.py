"""Every command has a help of one screen, errors are one line, and the status is honest."""

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import typer

from clipreid_kit import __version__
from clipreid_kit.cli.main import build_app, main

SOURCE = Path(__file__).parents[2] / "src"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}


def commands(group, *names):
    """The names of every command below a group."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *names, name)
        else:
            yield (*names, name)


COMMANDS = list(commands(typer.main.get_command(build_app())))


def test_the_commands():
    assert {names[0] for names in COMMANDS} >= {
        *("train", "evaluate", "report", "compare", "export", "recipes", "examples", "doctor")
    }


@pytest.mark.parametrize("names", COMMANDS, ids=" ".join)
def test_the_help_of_a_command_fits_a_screen_and_has_an_example(clipreid, names):
    status, text, error = clipreid(*names, "--help")

    assert (status, error) == (0, "")
    assert len(text.splitlines()) <= 36
    assert f"clipreid {' '.join(names)}" in text.partition("Example")[2]
    assert "\x1b" not in text


@pytest.mark.parametrize("names", [(), ("index",), ("recipes",)], ids=" ".join)
def test_a_group_alone_is_its_help(clipreid, names):
    help_of_it = clipreid(*names, "--help")[1]

    assert clipreid(*names) == (2, help_of_it, "")


def test_the_summaries_of_the_commands_are_whole(clipreid):
    for names in ((), ("index",), ("recipes",)):
        assert "..." not in clipreid(*names, "--help")[1].partition("Commands:")[2]


def test_the_version(clipreid):
    assert clipreid("--version") == (0, f"clipreid_kit {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["train", "quickstart", "--smok"], "No such option"),
        (["train"], "name a recipe, or a run with --resume"),
        (["export"], "Missing argument 'source'. See clipreid export --help."),
        (["evaluate"], "Missing argument"),
    ],
)
def test_wrong_options_are_one_line_and_status_2(clipreid, arguments, words):
    status, printed, error = clipreid(*arguments)

    assert (status, printed) == (2, "")
    assert error.startswith("error: ")
    assert words in error
    assert error.count("\n") == 1


def test_wrong_data_is_one_line_and_status_1(clipreid, tmp_path):
    status, printed, error = clipreid("report", tmp_path / "nowhere")

    assert (status, printed) == (1, "")
    assert error == f"error: The folder {tmp_path / 'nowhere'} is missing.\n"


def test_an_interrupt_is_status_130(monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("clipreid_kit.reports.gather_runs", interrupt)
    assert main(["report", "runs"]) == 130
    assert capsys.readouterr().err == "error: interrupted\n"


def test_the_help_waits_for_nothing_heavy():
    code = (
        "import sys; from clipreid_kit.cli.main import main; status = main(['--help']);"
        "heavy = {'torch', 'numpy', 'open_clip', 'pydantic', 'yaml'} & set(sys.modules);"
        "raise SystemExit(f'imported {heavy}' if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True)
    assert done.returncode == 0, done.stderr


def test_as_a_module_whose_reader_ends_early():
    command = f"{sys.executable} -m clipreid_kit recipes list | head -n 1"
    done = subprocess.run(command, shell=True, env=ENVIRONMENT, capture_output=True, text=True)

    assert done.stdout.startswith("cross_modality/")
    assert done.stderr == ""


def test_a_warning_is_one_line(monkeypatch):
    shown = []

    def warn(*_, **__):
        shown.append(warnings.formatwarning("first\nsecond", UserWarning, "file.py", 1))
        raise ValueError("the end")

    monkeypatch.setattr("clipreid_kit.reports.gather_runs", warn)
    main(["report", "runs"])

    assert shown == ["warning: first second\n"]
    assert "file.py:1" in warnings.formatwarning("later", UserWarning, "file.py", 1)


def test_an_error_in_the_options_ends_before_the_help_begins(clipreid):
    error = clipreid("index", "remove", "gallery.index")[2]
    assert "one of the two. See clipreid index remove --help." in error
