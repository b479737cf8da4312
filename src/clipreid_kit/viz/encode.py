"""Figures and images as bytes that are the same on every run."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from clipreid_kit._checks import check_at_least, fail
from clipreid_kit._files import write_whole
from clipreid_kit.viz.canvas import own_style
from clipreid_kit.viz.pixels import ImageLike, rgb_pixels

if TYPE_CHECKING:
    import matplotlib.figure

# what would differ between two runs or two versions of matplotlib
_NO_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def figure_png(
    figure: "matplotlib.figure.Figure", *, dpi: float = 144.0, transparent: bool = False
) -> bytes:
    r"""A figure as a PNG file in memory, without date or version inside.

    For embedding in a page or a notebook.

    Args:
        figure: A figure of this package, or any other.
        dpi: Pixels per inch, 10 or more; 144 is sharp on a phone.
        transparent: Leave the background out, for a page with a colour of its own.

    Returns:
        The bytes of the file; the same figure gives the same bytes.

    Raises:
        ValueError: If ``dpi`` is below 10.
        ImportError: If matplotlib is not installed.

    Example:
        >>> from clipreid_kit.viz import cmc_figure, figure_png
        >>> figure_png(cmc_figure({"after": [0.5, 0.75, 1.0]}))[:8]
        b'\x89PNG\r\n\x1a\n'
    """
    check_at_least("figure_png", "dpi", dpi, 10.0, " pixels per inch")
    return _encoded("figure_png", figure, "png", dpi, transparent=transparent)


def save_figure(
    figure: "matplotlib.figure.Figure", path: str | Path, *, dpi: float = 144.0
) -> None:
    """Write a figure to a PNG, SVG or PDF file, without date or version inside.

    The file is written under a temporary name and renamed, so a reader never sees half of it.

    Args:
        figure: A figure of this package, or any other.
        path: Ends in ``.png``, ``.svg`` or ``.pdf``; the folder must exist.
        dpi: Pixels per inch, 10 or more; for PNG, and for images inside the other two.

    Raises:
        ValueError: If the ending is another, the folder is missing, or ``dpi`` is below 10.
        ImportError: If matplotlib is not installed.

    Example:
        >>> from clipreid_kit.viz import cmc_figure, save_figure
        >>> folder = getfixture("tmp_path")
        >>> save_figure(cmc_figure({"after": [0.5, 0.75, 1.0]}), folder / "cmc.svg")
        >>> [file.name for file in folder.iterdir()]
        ['cmc.svg']
    """
    path = Path(path)
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _NO_METADATA:
        raise fail("save_figure", "path ending in .png, .svg or .pdf", path.name or "an empty name")
    if not path.parent.is_dir():
        raise fail(
            "save_figure", "path in an existing folder", str(path), f"Create {path.parent} first."
        )
    check_at_least("save_figure", "dpi", dpi, 10.0, " pixels per inch")
    write_whole(path, _encoded("save_figure", figure, kind, dpi, transparent=False))


def image_png(image: ImageLike, *, max_side: int | None = None) -> bytes:
    """An image as a PNG file in memory, made smaller where it is larger than needed.

    For thumbnails in a page. Never enlarges; keeps the aspect. Needs Pillow only.

    Args:
        image: A PIL image of any mode (transparent pixels are laid on white), or a uint8 array
            (height, width, 3).
        max_side: Pixels of the longer side at most, 1 or more; ``None`` keeps the size.

    Returns:
        The bytes of the file; the same image gives the same bytes.

    Raises:
        ValueError: If it is no image, cannot be decoded, or ``max_side`` is below 1.

    Example:
        >>> import io, PIL.Image
        >>> photo = PIL.Image.new("RGB", (64, 128))
        >>> PIL.Image.open(io.BytesIO(image_png(photo, max_side=32))).size
        (16, 32)
    """
    if max_side is not None and max_side < 1:
        raise fail("image_png", "max_side >= 1 pixel, or None", max_side)
    picture = Image.fromarray(rgb_pixels("image_png", "image", image))
    if max_side is not None and max(picture.size) > max_side:
        picture.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _encoded(
    owner: str, figure: "matplotlib.figure.Figure", kind: str, dpi: float, *, transparent: bool
) -> bytes:
    buffer = io.BytesIO()
    with own_style(owner):
        figure.savefig(
            buffer, format=kind, dpi=dpi, transparent=transparent, metadata=_NO_METADATA[kind]
        )
    return buffer.getvalue()
