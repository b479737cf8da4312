"""The page of a map of embeddings, with the images themselves."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from jaxtyping import Float

from clipreid_kit._checks import check_integer, fail
from clipreid_kit.data import ImageRecord, load_image
from clipreid_kit.reports._html_page import EmbeddedImage, embed_thumbnail, render_page
from clipreid_kit.viz.embedding_map import hue_of

_SIDE = 96  # pixels of a thumbnail's longer side
_EDGE = 2.0  # percent of the plane that is left free around the points


class Point(NamedTuple):
    """An image on the map.

    Attributes:
        left: Distance from the left edge, in percent.
        top: Distance from the top, in percent.
        about: Identity and camera.
        identity: Number of the identity.
        identity_hue: Hue of the identity, in degrees.
        camera_hue: Hue of the camera; 0 where it is unknown.
        image: The thumbnail.
    """

    left: float
    top: float
    about: str
    identity: int
    identity_hue: int
    camera_hue: int
    image: EmbeddedImage


def embedding_map_page(
    records: Sequence[ImageRecord],
    positions: Float[np.ndarray, "n 2"],
    *,
    title: str = "Embeddings",
    note: str = "",
    max_images: int = 1000,
) -> str:
    """Make an HTML page of a map: a point shows its image while the pointer or the focus is on it.

    Points of the same identity stand out with it; the arrow keys move to the next point in their
    direction. The page fetches nothing. Its thumbnails of at most 96 pixels are inside, about 3 kB
    each, so that a page of 1000 images has about 3 MB.

    Needs jinja2 (``pip install clipreid_kit[report]``).

    Args:
        records: The N images.
        positions: (N, 2), from :func:`~clipreid_kit.viz.embedding_positions`.
        title: Heading of the page.
        note: A sentence below it, such as what was embedded and how.
        max_images: Largest number of images of a page, >= 1.

    Returns:
        The page.

    Raises:
        ValueError: If there is no image, there are more than ``max_images``, positions are not
            (N, 2) or not finite, or an image cannot be read.
    """
    owner = "embedding_map_page"
    check_integer(owner, "max_images", max_images, 1)
    if not 0 < len(records) <= max_images:
        remedy = "Choose some with sample_identities, or raise max_images."
        raise fail(owner, f"1 to {max_images} images", len(records), remedy)

    places = np.asarray(positions, dtype=np.float64)
    if places.shape != (len(records), 2) or not np.isfinite(places).all():
        expected = f"finite positions ({len(records)}, 2)"
        raise fail(owner, expected, f"shape {places.shape}, or NaN or infinity")

    has_cameras = all(record.camera is not None for record in records)
    return render_page(
        "map.html",
        title=title,
        note=note,
        points=_points(records, places),
        num_identities=len({str(record.identity) for record in records}),
        num_cameras=len({str(record.camera) for record in records}) if has_cameras else 0,
    )


def sample_identities(
    records: Sequence[ImageRecord], max_images: int, *, seed: int = 0
) -> list[int]:
    """Choose whole identities at random, until no other one fits.

    Args:
        records: The images.
        max_images: Largest number of images to choose, >= 1.
        seed: Seed of the choice.

    Returns:
        Rows of the chosen images, ascending; all if they are few enough. Of a single identity with
        too many images, the first ones.

    Raises:
        ValueError: If ``max_images`` is below 1.

    Example:
        >>> records = [ImageRecord(f"{n}.jpg", n // 2) for n in range(6)]
        >>> sample_identities(records, 5)
        [0, 1, 4, 5]
    """
    check_integer("sample_identities", "max_images", max_images, 1)
    rows_of: dict[str, list[int]] = {}
    for row, record in enumerate(records):
        rows_of.setdefault(str(record.identity), []).append(row)

    chosen: list[int] = []
    groups = list(rows_of.values())
    for index in np.random.default_rng(seed).permutation(len(groups)).tolist():
        if len(chosen) + len(groups[index]) <= max_images:
            chosen += groups[index]
    return sorted(chosen) or groups[0][:max_images]


def _points(records: Sequence[ImageRecord], places: npt.NDArray[np.float64]) -> list[Point]:
    """Put each image on the map, in percent of its width and height."""
    low = places.min(axis=0)
    spread = float((places - low).max()) or 1.0
    percent = _EDGE + (100 - 2 * _EDGE) * (places - low) / spread

    identities = _numbers([str(record.identity) for record in records])
    cameras = _numbers([str(record.camera) for record in records])

    points = []
    for row, record in enumerate(records):
        left, up = percent[row].tolist()
        about = f"identity {record.identity}"
        if record.camera is not None:
            about += f", camera {record.camera}"

        point = Point(
            left=left,
            top=100 - up,
            about=about,
            identity=identities[row],
            identity_hue=round(360 * hue_of(identities[row])),
            camera_hue=round(360 * hue_of(cameras[row])),
            image=embed_thumbnail(load_image(record.path), max_side=_SIDE),
        )
        points.append(point)

    return points


def _numbers(names: Sequence[str]) -> list[int]:
    """Number names in the order in which they are first seen."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return [numbers[name] for name in names]
