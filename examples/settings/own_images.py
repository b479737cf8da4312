"""The section `data` of your own images: folders, tables, boxes and annotations."""

from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from clipreid_kit import data as kit
from clipreid_kit.data import ImageRecord
from examples.settings.images import Protocol, Stored
from examples.settings.section import Fraction, Needs

# The folders of a data set; of which training requires the first three.
_SPLITS = ("train", "query", "gallery", "val_query", "val_gallery", "val", "test")


class OwnImages(Stored):
    """Your own images, with splits or without."""

    test: Fraction = 0.0
    """Fraction of the identities that is held out for the test, of images without splits."""
    since: Annotated[
        str | None, BeforeValidator(lambda day: str(day) if isinstance(day, date) else day)
    ] = None
    """Date from which on test images are queries; earlier ones are the gallery. Null: by chance."""
    time_column: Annotated[str, Needs("data.since")] = "time"
    """Column or field of the pattern that holds the time of an image."""
    unknown: str | None = None
    """Identity of unknown individuals, which are gallery images and never a query or a match."""


class Folder(OwnImages):
    """Folders `train`, `query`, `gallery` (and `val_query`, `val_gallery`) of identity folders."""

    source: Literal["folder"]
    camera_pattern: str | None = None
    """Regular expression for file names, with a group `camera`."""
    pattern: str | None = None
    """Where paths name the identity, such as `{identity}_c{camera}*.jpg`; null for folders."""

    def read(self, root: str, *, trains: bool = True) -> list[ImageRecord]:
        """Read by the pattern, or the split folders that exist, or identity folders without splits.

        The reader names a required split that is missing.
        """
        if self.pattern is not None:
            return kit.read_folder(root, pattern=self.pattern, camera_pattern=self.camera_pattern)

        present = kit.find_split_folders(root, _SPLITS)
        if not present:
            return kit.read_folder(root, camera_pattern=self.camera_pattern)

        tested = ["test"] if "test" in present else _SPLITS[1:3]
        required = ["train", *tested] if trains else tested
        missing = [split for split in required if split not in present and not self.test]
        return kit.read_folder(
            root, splits=[*present, *missing], camera_pattern=self.camera_pattern
        )


class Table(OwnImages):
    """A table (CSV, JSON, Parquet, Arrow, Excel) with columns path, identity and, if any, split."""

    source: Literal["table"]
    columns: dict[str, str] = Field(default_factory=dict)
    """The table's names of columns, such as `{path: file, identity: name}`."""
    images: str | None = None
    """Folder that relative paths begin at; null for that of the table."""
    delimiter: str | None = None
    """Character between cells; null finds out whether it is a comma, semicolon, tab or |."""
    encoding: str | None = None
    """Encoding of separated cells, such as `cp1252`; null for UTF-8, or UTF-16 with its mark."""
    test_domain: str | None = None
    """Domain that is tested and not trained on, by the column `domain`; null for images of all."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the table."""
        return kit.read_table(
            root,
            root=self.images,
            columns=self.columns,
            delimiter=self.delimiter,
            encoding=self.encoding,
        )


class Coco(OwnImages):
    """A JSON file in COCO's format, whose boxes have an identity."""

    source: Literal["coco"]
    identity: str = "identity"
    """Key of annotations or of their attributes that names the individual; or `category`."""
    images: str | None = None
    """Folder that file names begin at; null for that of the file."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the boxes."""
        return kit.read_coco(root, root=self.images, identity=self.identity)


class Pairs(Stored):
    """Annotated images without cameras, each ranked against the others of its split."""

    protocols: ClassVar[tuple[Protocol, ...]] = ("leave_one_out",)
    source: Literal["annotations", "captioned_folder"]

    def read(self, root: str) -> list[ImageRecord]:
        """Read an annotation file, or the split folders that exist."""
        if self.source == "annotations":
            return kit.read_annotations(root)

        present = kit.find_split_folders(root, _SPLITS)
        return kit.read_captioned_folder(root, splits=present or None)
