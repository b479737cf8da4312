"""The section `data`: generated images, and the union of all sources."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveInt
from tqdm import tqdm

from clipreid_kit import data as kit
from clipreid_kit.data import ImageRecord
from examples.settings.benchmarks import (
    AerialGround,
    Cuhk03,
    DescribedPersons,
    Fashion,
    Hands11k,
    LeaveOneOut,
    Llcm,
    Mars,
    Msmt17,
    Omniglot,
    PolyUHands,
    QueryGallery,
    RegDB,
    SysuMM01,
    VehicleID,
)
from examples.settings.images import Images
from examples.settings.own_images import Coco, Folder, Pairs, Table
from examples.settings.section import Needs, default_tag

Look = Literal["plain", "night", "drawing"]


class Synthetic(Images):
    """A generated set of figures with captions."""

    source: Literal["synthetic"] = "synthetic"
    """Where the images come from."""
    num_identities: Annotated[int, Field(ge=20)] = 240
    """Identities of all splits."""
    views_per_camera: Annotated[int, Field(ge=2)] = 3
    """Images of an identity by each of the four cameras."""
    infrared_cameras: Annotated[int, Field(ge=0, le=3)] = 0
    """How many of the cameras are infrared; then every image has a modality."""
    frames: PositiveInt = 1
    """Frames of each of these images, which make it a tracklet."""
    looks: list[Look] = Field(default=["plain"], min_length=1)
    """Looks of the images; of several, each is a domain with so many identities of its own."""
    test_domain: Annotated[str | None, Needs("data.looks")] = None
    """Domain that is tested and not trained on; null for images of all."""

    def generate(self, folder: Path, seed: int, *, quiet: bool) -> list[ImageRecord]:
        """Write the images into a folder, and return their records."""
        if len(self.looks) == 1:
            return self._generate(folder, self.looks[0], seed, quiet=quiet)

        domains: dict[str, list[ImageRecord]] = {}
        for number, look in enumerate(self.looks):
            own_seed = 1000 * number + seed  # other persons in each domain
            domains[look] = self._generate(folder / look, look, own_seed, quiet=quiet)
        return kit.join_domains(domains)

    def _generate(self, folder: Path, look: Look, seed: int, *, quiet: bool) -> list[ImageRecord]:
        """Write the images of one look."""
        generator = kit.SyntheticReid(
            self.num_identities,
            views_per_camera=self.views_per_camera,
            frames_per_view=self.frames,
            seed=seed,
            infrared_cameras=self.infrared_cameras,
            look=look,
        )
        total = len(generator.records())
        workers = None if self.workers else 0

        with tqdm(total=total, unit="images", leave=False, disable=quiet or None) as bar:

            def count_image(_done: int, _total: int) -> None:
                bar.update()

            return generator.write(folder, progress=count_image, workers=workers)


Data = Annotated[
    Synthetic
    | Folder
    | Table
    | Coco
    | Omniglot
    | QueryGallery
    | Fashion
    | LeaveOneOut
    | DescribedPersons
    | SysuMM01
    | RegDB
    | Llcm
    | AerialGround
    | Msmt17
    | Mars
    | Cuhk03
    | VehicleID
    | Hands11k
    | PolyUHands
    | Pairs,
    Field(discriminator="source"),
    default_tag("source", "synthetic"),
]
