"""The one row type of every data set here: which image shows which identity."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from clipreid_kit._checks import fail


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """One image of one identity.

    Attributes:
        path: An image file, or ``archive.zip::member`` for a file inside a zip archive.
        identity: Who or what is shown; an integer or a non-empty string.
        camera: Which camera took it, an integer or a string; ``None`` where cameras are unknown.
        view: Aspect or pose, such as ``front``; ``None`` where unknown.
        caption: A sentence that describes the image or its identity; ``None`` where there is none.
        split: ``train``, ``val``, ``query``, ``gallery`` or a name of one's own.
        extra: Further columns, as they were read.

    Raises:
        ValueError: If ``identity``, or ``camera`` where there is one, is neither an integer nor a non-empty
            string.

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

    def __post_init__(self) -> None:
        if not _is_name(self.identity):
            remedy = "Map your identities to one of the two before building records."
            got = f"{self.identity!r} for {self.path}"
            raise fail("ImageRecord", "identity as an integer or a non-empty string", got, remedy)
        if self.camera is not None and not _is_name(self.camera):
            got = f"{self.camera!r} for {self.path}"
            raise fail("ImageRecord", "camera as an integer, a non-empty string or None", got)


def _is_name(value: object) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool) and value != ""
