"""SyntheticReid: a re-identification data set that is drawn, not downloaded."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from clipreid_kit._checks import fail
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.data.synthetic.attributes import Identity, make_identities
from clipreid_kit.data.synthetic.cameras import make_camera
from clipreid_kit.data.synthetic.captions import describe
from clipreid_kit.data.synthetic.render import render_view
from clipreid_kit.data.synthetic.shapes import all_shapes
from clipreid_kit.data.synthetic.splits import split_counts, split_name
from clipreid_kit.data.synthetic.store import write_folder

_REVISION = 1  # raised whenever the same parameters give other pixels or captions
_VIEW_STREAM = 3
_CAPTION_STREAM = 4
_SMALLEST_SIDE = 32


class SyntheticReid:
    """Drawn objects, seen by several cameras, with captions: a data set for examples, tests and quick trials.

    Each identity is one object (a striped jacket with a yellow star on the chest, ...). Every camera has its
    own background, light, colour cast, size range, blur and noise; every view has its own pose and perhaps
    something in front. Identities come in families of near-twins that share kind, main colour and pattern, so
    that a caption may fit more than one of them. No files, fonts or downloads are needed, and an image
    depends on the seed, its identity, camera and view, and the image size only.

    Train identities come first, then val, then test. The images of train identities have the split ``train``;
    of val and test identities the first ``query_views`` views of each camera are ``val_query`` and ``query``,
    the others ``val_gallery`` and ``gallery``, so every query has positives under every other camera.

    Args:
        num_identities: How many objects, at least one for each split.
        num_cameras: At least 2.
        views_per_camera: Images of each identity under each camera, at least 2.
        image_size: (height, width) in pixels, each at least 32.
        seed: At least 0; another seed gives another data set.
        split_fractions: Shares of train, val and test identities, together 1; each above 0 gets one at least.
        query_views: How many views of each camera are queries, from 1 to ``views_per_camera - 1``.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> data = SyntheticReid(12, num_cameras=2, views_per_camera=2, image_size=(48, 32))
        >>> data.render(0, camera=1, view=0).size
        (32, 48)
        >>> len(data.records()), data.records()[0].path
        (48, 'images/0000_c0_v0.png')
    """

    def __init__(
        self,
        num_identities: int = 240,
        *,
        num_cameras: int = 4,
        views_per_camera: int = 3,
        image_size: tuple[int, int] = (64, 64),
        seed: int = 0,
        split_fractions: tuple[float, float, float] = (0.6, 0.15, 0.25),
        query_views: int = 1,
    ) -> None:
        _check_whole("num_identities", num_identities, 1)
        _check_whole("num_cameras", num_cameras, 2)
        _check_whole("views_per_camera", views_per_camera, 2)
        _check_whole("seed", seed, 0)
        _check_whole("query_views", query_views, 1)
        if query_views >= views_per_camera:
            raise fail(
                "SyntheticReid",
                f"query_views < views_per_camera = {views_per_camera}, so that the gallery keeps a view",
                query_views,
            )
        if len(image_size) != 2:
            raise fail("SyntheticReid", "image_size as (height, width)", image_size)
        for side, length in zip(("height", "width"), image_size, strict=True):
            _check_whole(f"image_size {side}", length, _SMALLEST_SIDE)
        self.num_cameras = num_cameras
        self.views_per_camera = views_per_camera
        self.image_size = (image_size[0], image_size[1])
        self.seed = seed
        self.split_fractions = split_fractions
        self.query_views = query_views
        self._counts = split_counts(num_identities, split_fractions)
        self._shapes = all_shapes()
        self._cameras = tuple(make_camera(number, seed) for number in range(num_cameras))
        self.identities: tuple[Identity, ...] = make_identities(num_identities, seed, self._shapes)

    def render(self, identity: int, camera: int, view: int) -> Image.Image:
        """Draw one image.

        Args:
            identity: From 0 to ``num_identities - 1``.
            camera: From 0 to ``num_cameras - 1``.
            view: From 0 to ``views_per_camera - 1``.

        Returns:
            An RGB picture; the same bytes whatever was drawn before.

        Raises:
            ValueError: If there is no such identity, camera or view.

        Example:
            >>> picture = SyntheticReid(8, image_size=(128, 64)).render(2, camera=0, view=1)
            >>> picture.mode, picture.size
            ('RGB', (64, 128))
        """
        self._check_exists("render", identity, camera, view)
        height, width = self.image_size
        rng = np.random.default_rng((self.seed, _VIEW_STREAM, identity, camera, view))
        return render_view(
            self.identities[identity], self._cameras[camera], self._shapes, (width, height), rng
        )

    def caption(self, identity: int, camera: int, view: int) -> str:
        """Describe the identity in an image: truthfully, in varied words, at most one attribute left out.

        Args:
            identity: From 0 to ``num_identities - 1``.
            camera: From 0 to ``num_cameras - 1``.
            view: From 0 to ``views_per_camera - 1``.

        Returns:
            One English sentence.

        Raises:
            ValueError: If there is no such identity, camera or view.

        Example:
            >>> SyntheticReid(8).caption(0, camera=0, view=0)
            'A photo of a plain pink hat with blue trim and an orange star on the crown.'
        """
        self._check_exists("caption", identity, camera, view)
        rng = np.random.default_rng((self.seed, _CAPTION_STREAM, identity, camera, view))
        return describe(self.identities[identity], rng)

    def records(self) -> list[ImageRecord]:
        """List every image, ordered by identity, camera and view, without drawing any.

        Returns:
            Records whose paths are relative to the folder given to ``write``; views are words (``"0"``).

        Example:
            >>> sorted({record.split for record in SyntheticReid(8).records()})
            ['gallery', 'query', 'train', 'val_gallery', 'val_query']
        """
        return [
            ImageRecord(
                path=f"images/{identity:04d}_c{camera}_v{view}.png",
                identity=identity,
                camera=camera,
                view=str(view),
                caption=self.caption(identity, camera, view),
                split=split_name(identity, view, self._counts, self.query_views),
            )
            for identity in range(len(self.identities))
            for camera in range(self.num_cameras)
            for view in range(self.views_per_camera)
        ]

    def write(
        self, folder: str | os.PathLike[str], *, progress: Callable[[int, int], None] | None = None
    ) -> list[ImageRecord]:
        """Write the images as PNG files, and ``records.csv`` (path, identity, camera, view, caption, split).

        ``records.csv`` comes last: a folder without it was interrupted, and calling again draws what is
        missing. A complete folder of the same parameters (``synthetic.json`` keeps them) is used as it is.

        Args:
            folder: A new or empty folder, or one written here before with the same parameters.
            progress: Called with (images done, images in all) after each image that is drawn.

        Returns:
            The records, their paths starting with ``folder``, ready to be opened.

        Raises:
            ValueError: If the folder holds something else; nothing is written then.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     records = SyntheticReid(3, num_cameras=2, views_per_camera=2).write(folder)
            ...     all(Path(record.path).is_file() for record in records)
            True
        """
        target = Path(folder)
        records = self.records()
        parameters = {
            "generator": "clipreid_kit SyntheticReid",
            "revision": _REVISION,
            "num_identities": len(self.identities),
            "num_cameras": self.num_cameras,
            "views_per_camera": self.views_per_camera,
            "image_size": list(self.image_size),
            "seed": self.seed,
            "split_fractions": list(self.split_fractions),
            "query_views": self.query_views,
        }
        per_identity = self.num_cameras * self.views_per_camera

        def render(number: int) -> Image.Image:
            identity, rest = divmod(number, per_identity)
            return self.render(identity, *divmod(rest, self.views_per_camera))

        write_folder(target, records, parameters, render, progress)
        return [replace(record, path=str(target / record.path)) for record in records]

    def contact_sheet(
        self,
        num_identities: int = 8,
        *,
        identities: Sequence[int] | None = None,
        views: int = 1,
        gap: int = 4,
    ) -> Image.Image:
        """Draw a table of images: a row for each identity, a column for each camera and view.

        Args:
            num_identities: How many rows; not used where ``identities`` is given.
            identities: Which identities to show; ``None`` spreads the rows evenly over all of them.
            views: How many views of each camera, from 1 to ``views_per_camera``.
            gap: White space between pictures, in pixels.

        Returns:
            An RGB picture.

        Raises:
            ValueError: If there are not so many identities or views.

        Example:
            >>> SyntheticReid(12, image_size=(32, 32)).contact_sheet(3, gap=4).size
            (148, 112)
        """
        owner = "SyntheticReid.contact_sheet"
        total = len(self.identities)
        if identities is None and not 1 <= num_identities <= total:
            raise fail(owner, f"num_identities from 1 to {total}", num_identities)
        if identities is not None and len(identities) == 0:
            raise fail(
                owner, "at least one identity", "none", "Leave identities out to spread the rows."
            )
        if not 1 <= views <= self.views_per_camera:
            raise fail(owner, f"views from 1 to views_per_camera = {self.views_per_camera}", views)
        if gap < 0:
            raise fail(owner, "gap >= 0 pixels", gap)
        shown = (
            [row * total // num_identities for row in range(num_identities)]
            if identities is None
            else identities
        )
        height, width = self.image_size
        columns = self.num_cameras * views
        sheet = Image.new(
            "RGB",
            (columns * (width + gap) + gap, len(shown) * (height + gap) + gap),
            (255, 255, 255),
        )
        frame = Image.new("L", (4 * width, 4 * height))
        radius = 0.3 * min(height, width)
        ImageDraw.Draw(frame).rounded_rectangle(
            (0, 0, 4 * width - 1, 4 * height - 1), radius=radius, fill=255
        )
        frame = frame.resize((width, height), Image.Resampling.LANCZOS)
        for row, identity in enumerate(shown):
            for column in range(columns):
                picture = self.render(identity, *divmod(column, views))
                sheet.paste(
                    picture, (gap + column * (width + gap), gap + row * (height + gap)), frame
                )
        return sheet

    def _check_exists(self, method: str, identity: int, camera: int, view: int) -> None:
        limits = (len(self.identities), self.num_cameras, self.views_per_camera)
        for name, value, limit in zip(
            ("identity", "camera", "view"), (identity, camera, view), limits, strict=True
        ):
            if not 0 <= value < limit:
                raise fail(f"SyntheticReid.{method}", f"{name} from 0 to {limit - 1}", value)


def _check_whole(name: str, value: object, lowest: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < lowest:
        raise fail("SyntheticReid", f"{name} as a whole number >= {lowest}", repr(value))
