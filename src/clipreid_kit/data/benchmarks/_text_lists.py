"""Rows of the text lists that benchmarks come with."""

from collections.abc import Iterator

from clipreid_kit._checks import shown
from clipreid_kit.data.benchmarks._listed_images import require_images
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


def listed_identities(owner: str, tree: FileTree, file: str) -> list[int]:
    """Read identities that are separated by commas."""
    text = tree.text(owner, file).replace("\n", ",")
    cells = [cell.strip() for cell in text.split(",")]
    filled = [cell for cell in cells if cell]

    wrong = [cell for cell in filled if not cell.isdecimal()]
    if wrong or not filled:
        found = shown(wrong[0]) if wrong else "nothing"
        raise ValueError(
            f"{owner}: {tree.path(file)} holds {found}; expected identities, separated by commas. "
            "Download it again."
        )
    return [int(cell) for cell in filled]


def images_with_identities(owner: str, tree: FileTree, file: str) -> list[tuple[str, int]]:
    """Read rows ``<image> <identity>``, and check that the images exist."""
    rows = []
    for number, line in numbered_lines(owner, tree, file):
        image, _, identity = line.rpartition(" ")
        if not image or not identity.isdecimal():
            raise bad_row(owner, file, "<image> <identity>", number, line)
        rows.append((image.strip(), int(identity)))

    require_images(owner, tree, [image for image, _ in rows], file)
    return rows
