"""Image records: the one row type of every data set in this library."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from clipreid_kit._checks import fail, shown


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of one identity.

    Use lists of records for any data set: readers return them, splits and checks take them, and
    :class:`ReidDataset` loads their images.

    Attributes:
        path: Path of an image file, or ``archive.zip::member`` for a file inside a zip archive, or
            ``table.parquet::column/row`` for an image inside a Parquet file;
            behind either, ``#xywh=left,top,width,height`` for a part of the image, in pixels.
        identity: Person, animal or object in the image; an integer or a non-empty string.
        camera: Camera that took the image, an integer or a non-empty string; ``None`` if unknown.
        view: Aspect or pose, such as ``front``; ``None`` if unknown.
        caption: Description of the image or of its identity; ``None`` if there is none.
        split: ``train``, ``val``, ``query``, ``gallery`` or any other name; ``None`` if not split.
        extra: Values of further columns, as they were read.
        modality: Kind of the sensor, such as ``visible`` or ``infrared``; ``None`` if unknown.
        tracklet: Sequence of images that the image belongs to, of one identity before one camera;
            an integer or a non-empty string. ``None`` for a still. See :func:`check_tracklets`.
        frame: Number of the image in its video, by which the images of a tracklet are ordered;
            ``None`` if unknown.

    Raises:
        ValueError: If ``identity``, or a ``camera`` or ``tracklet`` that is not ``None``, is
            neither an integer of 64 bits nor a non-empty string; if ``modality`` is neither a
            non-empty string nor ``None``, or ``frame`` neither such an integer nor ``None``.

    Example:
        >>> record = ImageRecord("img/0001_c1.jpg", identity=1, camera=1, caption="a red coat")
        >>> record.identity, record.split
        (1, None)
    """

    path: str
    identity: int | str
    camera: int | str | None = None
    view: str | None = None
    caption: str | None = None
    split: str | None = None
    extra: Mapping[str, str] = field(default_factory=dict)
    modality: str | None = None
    tracklet: int | str | None = None
    frame: int | None = None

    def __post_init__(self) -> None:
        for name in (self.identity, self.camera, self.tracklet):
            if isinstance(name, str) and "\0" in name:
                raise ValueError(
                    f"ImageRecord: {shown(name)} of {self.path} holds a null character, which "
                    "arrays and files of text drop. Remove it."
                )

        if not _is_integer_or_name(self.identity):
            raise self._wrong(
                "identity",
                "an integer or a non-empty string",
                "Map identities to integers or strings before building records.",
            )

        for column in ("camera", "tracklet"):
            value = getattr(self, column)
            if value is not None and not _is_integer_or_name(value):
                raise self._wrong(column, "an integer, a non-empty string or None")

        if self.frame is not None and not _is_integer(self.frame):
            raise self._wrong("frame", "an integer or None")

        if self.modality is not None and not _is_name(self.modality):
            raise self._wrong(
                "modality",
                "a non-empty string or None",
                "Use names such as 'visible' and 'infrared'.",
            )

    def _wrong(self, column: str, expected: str, remedy: str = "") -> ValueError:
        """Return the error of a column whose value is not as expected."""
        got = f"{shown(getattr(self, column))} for {self.path}"
        return fail("ImageRecord", f"{column} as {expected}", got, remedy)


def check_records(owner: str, records: Iterable[object]) -> None:
    """Require records, and not paths, rows of a table or a data set."""
    for number, record in enumerate(records):
        if not isinstance(record, ImageRecord):
            got = f"{type(record).__name__} {shown(record)} as number {number}"
            raise fail(owner, "records as ImageRecord", got, "Build them, or use a reader.")


def _is_integer_or_name(value: object) -> bool:
    """Return whether a value can name an identity, a camera or a tracklet."""
    return _is_name(value) or _is_integer(value)


def _is_name(value: object) -> bool:
    """Return whether a value is a string that is not empty."""
    return isinstance(value, str) and value != ""


def _is_integer(value: object) -> bool:
    """Return whether a value is an integer that tensors and arrays hold."""
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return -(2**63) <= value < 2**63
