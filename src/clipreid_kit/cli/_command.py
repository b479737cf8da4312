"""Commands and their program: errors that name options, and interrupts that are seen."""

import re
from collections.abc import Iterable
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup


class Program(TyperGroup):
    """A group of commands that ends by ``typer.Abort`` on Ctrl-C, and not in silence."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 (typer exports no type)
        """Run a command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise typer.Abort from error


class Command(TyperCommand):
    """A command that writes ``--min-probability`` where the library says ``min_probability``."""

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 (typer exports no type)
        """Run the command."""
        try:
            return super().invoke(ctx)
        except ValueError as error:
            names = [parameter.name for parameter in self.params]
            raise ValueError(with_option_names(str(error), names)) from error


def with_option_names(message: str, names: Iterable[str]) -> str:
    """Write arguments of the library as the options that they came from.

    Names of a single word stay, as they may be words of the sentence.

    >>> with_option_names("pass min_rate= or k, and no data.min_rate.", ["min_rate", "k"])
    'pass --min-rate or k, and no data.min_rate.'
    """
    for name in names:
        if "_" in name:
            option = f"--{name.replace('_', '-')}"
            message = re.sub(rf"(?<![\w./-]){name}(?![\w/])=?", option, message)
    return message
