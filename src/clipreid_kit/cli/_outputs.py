"""Files that commands write, checked before any work is done for them."""

from pathlib import Path

import typer

from clipreid_kit._files import check_replaceable, reason_of


def file_to_write(file: Path | None) -> Path | None:
    """Callback of an option or argument: require that the file can be written.

    Raises:
        typer.BadParameter: If it is a folder, or its folder is missing or cannot be written to.
    """
    if file is not None:
        try:
            check_replaceable(file)
        except OSError as error:
            raise typer.BadParameter(f"{file}: {reason_of(error)}") from error
    return file


def table_to_write(file: Path | None) -> Path | None:
    """Callback as :func:`file_to_write`, whose suffix has to be that of a table."""
    if file is not None:
        file_to_write(file)
        from clipreid_kit.data.readers.table_by_suffix import written_suffix

        written_suffix("--out", file)
    return file


def figure_to_write(file: Path | None) -> Path | None:
    """Callback as :func:`file_to_write`, whose suffix has to be that of a figure."""
    if file is not None:
        file_to_write(file)
        from clipreid_kit.viz.write_figures import figure_kind

        figure_kind("--figure", file)
    return file
