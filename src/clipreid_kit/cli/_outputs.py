"""Files that commands write, checked before any work is done for them."""

from pathlib import Path

import typer

from clipreid_kit._files import check_replaceable, reason_of


def check_output(option: str, file: Path) -> None:
    """Require that a file can be written, before there is anything to write.

    Args:
        option: Name of the option that names it; empty for an argument.
        file: The file.

    Raises:
        typer.BadParameter: If it is a folder, or its folder is missing or cannot be written to.
    """
    try:
        check_replaceable(file)
    except OSError as error:
        raise typer.BadParameter(f"{option} {file}: {reason_of(error)}".strip()) from error
