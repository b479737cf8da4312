"""A re-identification data set that is drawn, not downloaded."""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from clipreid_kit._checks import check_choice, check_integer, fail
from clipreid_kit._fixed_options import fixed_options
from clipreid_kit.data.records import ImageRecord
from clipreid_kit.data.synthetic._captions import describe
from clipreid_kit.data.synthetic._dataset_folder import write_folder
from clipreid_kit.data.synthetic._objects.kinds import all_shapes
from clipreid_kit.data.synthetic._scene.cameras import make_camera
from clipreid_kit.data.synthetic._scene.frames import Frame, make_frame
from clipreid_kit.data.synthetic._scene.infrared import infrared_image
from clipreid_kit.data.synthetic._scene.looks import SyntheticLook, apply_look
from clipreid_kit.data.synthetic._scene.render import render_view
from clipreid_kit.data.synthetic._splits import split_counts, split_name
from clipreid_kit.data.synthetic.identities import Identity, make_identities

_REVISION = 1  # increased whenever the same parameters give other pixels or captions
_VIEW_STREAM = 3
_CAPTION_STREAM = 4
_FRAME_STREAM = 5
_SMALLEST_SIDE = 32
_DEFAULT_FRACTIONS = (0.6, 0.15, 0.25)


@fixed_options(not_kept=("num_identities",))
class SyntheticReid:
    """Drawn objects, seen by several cameras, with captions.

    Use it as a data set for examples, tests and quick trials. Each identity is one object (a
    striped jacket with a yellow star on the chest, ...). Every camera has its own background,
    light, colour cast, size range, blur and noise; every view has its own pose and sometimes an
    occluder. With ``frames_per_view`` every view is a tracklet, in which the object moves and
    something may pass in front of it. Identities come in families of near-twins that share kind,
    main colour and pattern, so a caption may fit more than one of them. No files, fonts or
    downloads are needed. An image depends only on the seed, its identity, camera, view and frame,
    and the image size.

    Train identities come first, then val, then test. The images of train identities have the split
    ``train``. Of val and test identities, the first ``query_views`` views of each camera have the
    split ``val_query`` or ``query``, and the remaining views ``val_gallery`` or ``gallery``, so
    every query has positives under every other camera.

    Args:
        num_identities: Number of objects, at least one for each split.
        num_cameras: Number of cameras, at least 2.
        views_per_camera: Images of each identity under each camera, at least 2.
        image_size: (height, width) in pixels, each at least 32.
        seed: Seed of all draws, at least 0.
        split_fractions: Fractions of train, val and test identities, with sum 1. A split with a
            fraction above 0 gets at least one identity.
        query_views: Views of each camera that are queries, from 1 to ``views_per_camera - 1``.
        infrared_cameras: The last so many cameras are infrared, fewer than all: their images are
            grey, without colours, and warm objects are bright. Records then have the modality
            ``visible`` or ``infrared``. 0 for visible cameras only, and no modality.
        frames_per_view: Frames of each view, at least 1. With 2 or more, each view is a tracklet,
            and its first frame is the image that it has without others.
        look: Look of all images, to make data sets of several domains: ``"plain"``, ``"night"``
            (dark and bluish) or ``"drawing"`` (pale, with outlines).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> data = SyntheticReid(12, num_cameras=2, views_per_camera=2, image_size=(48, 32))
        >>> data.render(0, camera=1, view=0).size
        (32, 48)
        >>> len(data.records()), data.records()[0].path
        (48, 'images/0000_c0_v0.png')
        >>> data
        SyntheticReid(12, num_cameras=2, views_per_camera=2, image_size=(48, 32), seed=0)
    """

    num_cameras: Final[int]
    seed: Final[int]
    split_fractions: Final[tuple[float, float, float]]

    def __init__(
        self,
        num_identities: int = 240,
        *,
        num_cameras: int = 4,
        views_per_camera: int = 3,
        image_size: tuple[int, int] = (64, 64),
        seed: int = 0,
        split_fractions: tuple[float, float, float] = _DEFAULT_FRACTIONS,
        query_views: int = 1,
        infrared_cameras: int = 0,
        frames_per_view: int = 1,
        look: SyntheticLook = "plain",
    ) -> None:
        owner = "SyntheticReid"
        check_integer(owner, "num_identities", num_identities, 1)
        check_integer(owner, "num_cameras", num_cameras, 2)
        check_integer(owner, "views_per_camera", views_per_camera, 2)
        check_integer(owner, "seed", seed, 0)
        check_integer(owner, "query_views", query_views, 1)
        check_integer(owner, "infrared_cameras", infrared_cameras, 0)
        check_integer(owner, "frames_per_view", frames_per_view, 1)
        check_choice(owner, "look", look, ("plain", "night", "drawing"))
        _check_image_size(image_size)
        if query_views >= views_per_camera:
            raise ValueError(
                f"{owner}: query_views={query_views} leaves no view for the gallery; "
                f"set it below views_per_camera={views_per_camera}."
            )

        if infrared_cameras >= num_cameras:
            raise ValueError(
                f"{owner}: infrared_cameras={infrared_cameras} leaves no visible camera; set it "
                f"below num_cameras={num_cameras}."
            )

        self.num_cameras = num_cameras
        self.views_per_camera = views_per_camera
        self.image_size = (image_size[0], image_size[1])
        self.seed = seed
        self.split_fractions = split_fractions
        self.query_views = query_views
        self.infrared_cameras = infrared_cameras
        self.frames_per_view = frames_per_view
        self.look: SyntheticLook = look

        self._split_counts = split_counts(num_identities, split_fractions)
        self._shapes = all_shapes()
        self._cameras = tuple(make_camera(number, seed) for number in range(num_cameras))
        self.identities: tuple[Identity, ...] = make_identities(num_identities, seed, self._shapes)

    def __repr__(self) -> str:
        options = [
            f"num_cameras={self.num_cameras}",
            f"views_per_camera={self.views_per_camera}",
            f"image_size={self.image_size}",
            f"seed={self.seed}",
        ]
        if self.split_fractions != _DEFAULT_FRACTIONS:
            options.append(f"split_fractions={self.split_fractions}")
        if self.query_views != 1:
            options.append(f"query_views={self.query_views}")
        if self.infrared_cameras:
            options.append(f"infrared_cameras={self.infrared_cameras}")
        if self.frames_per_view != 1:
            options.append(f"frames_per_view={self.frames_per_view}")
        if self.look != "plain":
            options.append(f"look={self.look!r}")

        return f"SyntheticReid({len(self.identities)}, {', '.join(options)})"

    def render(self, identity: int, camera: int, view: int, frame: int = 0) -> Image.Image:
        """Draw one image.

        Args:
            identity: From 0 to ``num_identities - 1``.
            camera: From 0 to ``num_cameras - 1``.
            view: From 0 to ``views_per_camera - 1``.
            frame: From 0 to ``frames_per_view - 1``.

        Returns:
            An RGB image, which does not depend on earlier calls; of an infrared camera all three
            channels are equal.

        Raises:
            ValueError: If there is no such identity, camera, view or frame.

        Example:
            >>> image = SyntheticReid(8, image_size=(128, 64)).render(2, camera=0, view=1)
            >>> image.mode, image.size
            ('RGB', (64, 128))
        """
        self._check_exists("render", identity, camera, view)
        _check_index("SyntheticReid.render", "frame", frame, self.frames_per_view)

        height, width = self.image_size
        rng = np.random.default_rng((self.seed, _VIEW_STREAM, identity, camera, view))
        image = render_view(
            self.identities[identity],
            self._cameras[camera],
            self._shapes,
            (width, height),
            rng,
            self._frame((identity, camera, view), frame) if frame else None,
        )
        if self.look != "plain":
            image = apply_look(image, self.look)
        return infrared_image(image, rng) if self._is_infrared(camera) else image

    def caption(self, identity: int, camera: int, view: int) -> str:
        """Describe the identity of an image truthfully, in varied words.

        At most one attribute is left out.

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
        """List every image, ordered by identity, camera, view and frame, without drawing any.

        Returns:
            Records whose paths are relative to the folder given to :meth:`write`; views are strings
            (``"0"``). Tracklets and frames are there with ``frames_per_view`` of 2 or more.

        Example:
            >>> sorted({record.split for record in SyntheticReid(8).records()})
            ['gallery', 'query', 'train', 'val_gallery', 'val_query']
        """
        return [
            self._record(identity, camera, view, frame)
            for identity in range(len(self.identities))
            for camera in range(self.num_cameras)
            for view in range(self.views_per_camera)
            for frame in range(self.frames_per_view)
        ]

    def write(
        self,
        folder: str | os.PathLike[str],
        *,
        progress: Callable[[int, int], None] | None = None,
        workers: int | None = 0,
    ) -> list[ImageRecord]:
        """Write the images as PNG files, and their records as ``records.csv``.

        The columns of the table are path, identity, camera, view, caption and split, with infrared
        cameras the modality, and of tracklets also tracklet and frame.
        ``records.csv`` is written last: a folder without it is incomplete, and calling again draws
        the missing images. A complete folder with the same parameters (kept in ``synthetic.json``)
        is used unchanged.

        Args:
            folder: A new or empty folder, or one written here before with the same parameters.
            progress: Called with (images done, number of images) after each image that is drawn.
            workers: Processes that draw the images, which do not depend on it. 0 draws them in this
                one. ``None`` uses every core that this process may use, from 1,000 images on.

        Returns:
            The records, with paths that start with ``folder``, ready to be opened.

        Raises:
            ValueError: If the folder holds anything else, or ``workers`` is negative; nothing is
                written then.

        Example:
            >>> import tempfile
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     records = SyntheticReid(3, num_cameras=2, views_per_camera=2).write(folder)
            ...     all(Path(record.path).is_file() for record in records)
            True
        """
        if workers is not None:
            check_integer("SyntheticReid.write", "workers", workers, 0)

        target = Path(folder)
        records = self.records()
        parameters = self._parameters()
        write_folder(target, records, parameters, self._render_row, progress, workers)

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
            num_identities: Number of rows; ignored if ``identities`` is given.
            identities: Identities to show; ``None`` spreads the rows evenly over all identities.
            views: Views of each camera, from 1 to ``views_per_camera``.
            gap: White space between images, in pixels, >= 0.

        Returns:
            An RGB image.

        Raises:
            ValueError: If there are not that many identities or views.

        Example:
            >>> SyntheticReid(12, image_size=(32, 32)).contact_sheet(3, gap=4).size
            (148, 112)
        """
        owner = "SyntheticReid.contact_sheet"
        if not 1 <= views <= self.views_per_camera:
            raise fail(owner, f"views from 1 to views_per_camera = {self.views_per_camera}", views)
        if gap < 0:
            raise fail(owner, "gap >= 0 pixels", gap)

        rows = self._sheet_rows(owner, num_identities, identities)
        num_columns = self.num_cameras * views
        height, width = self.image_size

        sheet_size = (num_columns * (width + gap) + gap, len(rows) * (height + gap) + gap)
        sheet = Image.new("RGB", sheet_size, (255, 255, 255))
        frame = _rounded_frame(width, height)

        for row, identity in enumerate(rows):
            for column in range(num_columns):
                camera, view = divmod(column, views)
                corner = (gap + column * (width + gap), gap + row * (height + gap))
                sheet.paste(self.render(identity, camera, view), corner, frame)

        return sheet

    def _frame(self, image: tuple[int, int, int], frame: int) -> Frame:
        """Draw how a later frame of an image (identity, camera, view) differs from it."""
        of_view = np.random.default_rng((self.seed, _FRAME_STREAM, *image))
        of_frame = np.random.default_rng((self.seed, _FRAME_STREAM, *image, frame))
        return make_frame(frame, of_view, of_frame)

    def _record(self, identity: int, camera: int, view: int, frame: int) -> ImageRecord:
        name = f"{identity:04d}_c{camera}_v{view}"
        is_video = self.frames_per_view > 1
        return ImageRecord(
            path=f"images/{name}_f{frame:02d}.png" if is_video else f"images/{name}.png",
            identity=identity,
            camera=camera,
            view=str(view),
            caption=self.caption(identity, camera, view),
            split=split_name(identity, view, self._split_counts, self.query_views),
            modality=self._modality(camera),
            tracklet=name if is_video else None,
            frame=frame if is_video else None,
        )

    def _is_infrared(self, camera: int) -> bool:
        """Whether a camera is one of the infrared ones, which are the last."""
        return camera >= self.num_cameras - self.infrared_cameras

    def _modality(self, camera: int) -> str | None:
        """Modality of a camera's images; ``None`` if all cameras are visible."""
        if self.infrared_cameras == 0:
            return None
        return "infrared" if self._is_infrared(camera) else "visible"

    def _render_row(self, row: int) -> Image.Image:
        """Draw the image of one record by its index in :meth:`records`."""
        rest, frame = divmod(row, self.frames_per_view)
        rest, view = divmod(rest, self.views_per_camera)
        identity, camera = divmod(rest, self.num_cameras)
        return self.render(identity, camera, view, frame)

    def _parameters(self) -> dict[str, object]:
        """Return everything that the images and records depend on, as JSON values."""
        parameters: dict[str, object] = {
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

        # Folders that earlier versions wrote do not name these.
        if self.frames_per_view != 1:
            parameters["frames_per_view"] = self.frames_per_view
        if self.look != "plain":
            parameters["look"] = self.look
        if self.infrared_cameras:
            parameters["infrared_cameras"] = self.infrared_cameras
        return parameters

    def _sheet_rows(
        self, owner: str, num_identities: int, identities: Sequence[int] | None
    ) -> Sequence[int]:
        """Choose the identities of a contact sheet."""
        if identities is not None:
            if len(identities) == 0:
                raise ValueError(
                    f"{owner}: identities is empty; leave it out to spread the rows over all."
                )
            return identities

        total = len(self.identities)
        if not 1 <= num_identities <= total:
            raise fail(owner, f"num_identities from 1 to {total}", num_identities)

        return [row * total // num_identities for row in range(num_identities)]

    def _check_exists(self, method: str, identity: int, camera: int, view: int) -> None:
        """Raise ValueError if there is no such image."""
        owner = f"SyntheticReid.{method}"
        _check_index(owner, "identity", identity, len(self.identities))
        _check_index(owner, "camera", camera, self.num_cameras)
        _check_index(owner, "view", view, self.views_per_camera)


def _check_image_size(image_size: tuple[int, int]) -> None:
    owner = "SyntheticReid"
    if len(image_size) != 2:
        raise fail(owner, "image_size as (height, width)", image_size)

    height, width = image_size
    check_integer(owner, "image_size height", height, _SMALLEST_SIDE)
    check_integer(owner, "image_size width", width, _SMALLEST_SIDE)


def _check_index(owner: str, name: str, index: int, count: int) -> None:
    if not 0 <= index < count:
        raise fail(owner, f"{name} from 0 to {count - 1}", index)


def _rounded_frame(width: int, height: int) -> Image.Image:
    """Draw a mask with rounded corners, smoothed by reducing it from four times its size."""
    large = Image.new("L", (4 * width, 4 * height))
    radius = 0.3 * min(height, width)
    corners = (0, 0, 4 * width - 1, 4 * height - 1)
    ImageDraw.Draw(large).rounded_rectangle(corners, radius=radius, fill=255)

    return large.resize((width, height), Image.Resampling.LANCZOS)
