"""Rows of the text lists that benchmarks come with."""

from collections.abc import Iterator

from clipreid_kit.data.files.file_tree import FileTree


def numbered_lines(owner: str, tree: FileTree, file: str) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line that is not blank."""
    for number, line in enumerate(tree.text(owner, file).splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def bad_row(owner: str, file: str, form: str, number: int, line: str) -> ValueError:
    """Build the error for a row of another form."""
    return ValueError(
        f"{owner}: row {number} of {file} is {line!r}; expected {form}. Download the list again."
    )
