"""Write figures and images to bytes or files that are the same on every run."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from clipreid_kit._checks import check_at_least, check_integer, fail
from clipreid_kit._files import write_whole
from clipreid_kit._read_files import exists, is_folder
from clipreid_kit.viz._canvas import own_style
from clipreid_kit.viz.image_pixels import ImageLike, rgb_pixels

if TYPE_CHECKING:
    import matplotlib.figure

# Fields that would differ between two runs or two versions of matplotlib.
_NO_METADATA: dict[str, dict[str, None]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def figure_png(
    figure: "matplotlib.figure.Figure", *, dpi: float = 144.0, transparent: bool = False
) -> bytes:
    r"""Encode a figure as a PNG file in memory, without date or version.

    Use it to embed a figure in a page or a notebook.

    Args:
        figure: A figure of this package, or any other.
        dpi: Pixels per inch, >= 10; 144 is sharp on a phone.
        transparent: Omit the background, for a page with its own colour.

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
    """Write a figure to a PNG, SVG or PDF file, without date or version.

    The file appears whole or not at all: it is written under a temporary name and renamed.

    Args:
        figure: A figure of this package, or any other.
        path: Target file, ending in ``.png``, ``.svg`` or ``.pdf``; its folder must exist.
        dpi: Pixels per inch, >= 10, of a PNG file or of the images inside the others.

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
    owner = "save_figure"
    path = Path(path)
    kind = figure_kind(owner, path)
    if not is_folder(path.parent):
        raise ValueError(f"{owner}: there is no folder {path.parent}. Create it first.")
    check_at_least(owner, "dpi", dpi, 10.0, " pixels per inch")
    exists(path)  # refuses names that cannot be

    write_whole(path, _encoded(owner, figure, kind, dpi, transparent=False))


def figure_kind(owner: str, path: Path) -> str:
    """Return the kind of figure that a file holds by its name: png, svg or pdf.

    Raises:
        ValueError: If the ending is another.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in _NO_METADATA:
        raise fail(owner, "path ending in .png, .svg or .pdf", path.name or "an empty name")
    return kind


def image_png(image: ImageLike, *, max_side: int | None = None) -> bytes:
    """Encode an image as a PNG file in memory, reduced to a maximum size.

    Use it for thumbnails in a page. It never enlarges an image and keeps its aspect. Needs Pillow
    only.

    Args:
        image: A PIL image of any mode (transparent pixels are shown on white), or a uint8 array
            (height, width, 3).
        max_side: Maximum length of the longer side in pixels, >= 1; ``None`` keeps the size.

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
    owner = "image_png"
    if max_side is not None:
        check_integer(owner, "max_side", max_side, 1)

    rgb = Image.fromarray(rgb_pixels(owner, "image", image))
    if max_side is not None and max(rgb.size) > max_side:
        rgb.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)

    buffer = io.BytesIO()
    rgb.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _encoded(
    owner: str, figure: "matplotlib.figure.Figure", kind: str, dpi: float, *, transparent: bool
) -> bytes:
    buffer = io.BytesIO()
    metadata = _NO_METADATA[kind]
    with own_style(owner):
        figure.savefig(buffer, format=kind, dpi=dpi, transparent=transparent, metadata=metadata)

    return buffer.getvalue()
