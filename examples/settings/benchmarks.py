"""The section `data` of published data sets."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from clipreid_kit import data as kit
from clipreid_kit.data import ImageRecord, fashion
from examples.settings.images import Protocol, Stored
from examples.settings.text_terms import TRAINS_ON_CAPTIONS

Aspect = Literal["dorsal_r", "dorsal_l", "palmar_r", "palmar_l"]


class Omniglot(Stored):
    """Handwritten characters as identities, and their drawers as cameras."""

    source: Literal["omniglot"]
    held_out: list[str] = Field(default_factory=list)
    """Training alphabets that are held out for validation."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the characters."""
        return kit.read_omniglot(root, held_out_alphabets=self.held_out)


class Benchmark(Stored):
    """A published benchmark."""

    counts: Literal["warn", "raise", "ignore"] = "warn"
    """Whether other numbers of images and identities than the official ones are an error."""


class QueryGallery(Benchmark):
    """A benchmark with one query and one gallery, and no keys of its own."""

    source: Literal["market1501", "veri776", "inshop"]

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark."""
        match self.source:
            case "market1501":
                return kit.read_market1501(root, counts=self.counts)
            case "veri776":
                return kit.read_veri776(root, counts=self.counts)
            case "inshop":
                return kit.read_inshop(root, counts=self.counts)


class Fashion(Stored):
    """In-shop as the fashion pipeline keeps it: `<split>/img/...`, listed in `image_paths.json`."""

    source: Literal["fashion"]
    image_meta: str = "../metadata/image_paths.json"
    """The list, relative to the images or to the working directory."""
    merge_val: bool = True
    """Train on the images of both `train` and `val`."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the list, and find its images below the folders of their splits."""
        beside = Path(root) / self.image_meta
        listed = beside if beside.is_file() else Path(self.image_meta)
        records = fashion.read_image_paths(listed, root=root)
        if not self.merge_val:
            return records
        return [replace(r, split="train") if r.split == "val" else r for r in records]


class LeaveOneOut(Benchmark):
    """A benchmark whose test images are each ranked against all others."""

    protocols: ClassVar[tuple[Protocol, ...]] = ("leave_one_out",)
    source: Literal["online_products"]

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark."""
        return kit.read_online_products(root, counts=self.counts)


class DescribedPersons(Benchmark):
    """A benchmark of persons with one or several captions of each image."""

    protocols: ClassVar[tuple[Protocol, ...]] = ("leave_one_out", "text_to_person")
    source: Literal["cuhk_pedes", "icfg_pedes", "rstpreid"]
    captions: Annotated[Literal["first", "each"], TRAINS_ON_CAPTIONS] = "each"
    """Train on the first caption of an image, or on each as a pair of its own."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark: a record for each image, with all its captions."""
        match self.source:
            case "cuhk_pedes":
                return kit.read_cuhk_pedes(root, counts=self.counts)
            case "icfg_pedes":
                return kit.read_icfg_pedes(root, counts=self.counts)
            case "rstpreid":
                return kit.read_rstpreid(root, counts=self.counts)


class SysuMM01(Benchmark):
    """SYSU-MM01: infrared queries, visible galleries."""

    protocols: ClassVar[tuple[Protocol, ...]] = (
        "sysu_all",
        "sysu_indoor",
        "sysu_all_multi",
        "sysu_indoor_multi",
    )
    source: Literal["sysu_mm01"]
    merge_val: bool = True
    """Train on the images of both `train` and `val`."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark."""
        return kit.read_sysu_mm01(root, merge_val=self.merge_val, counts=self.counts)

    def fixed_draws(self) -> dict[tuple[int | str, int], npt.NDArray[np.int64]] | None:
        """The galleries that come with the set; ``None`` without the file."""
        return None if self.root is None else kit.read_sysu_permutations(self.root)


class RegDB(Benchmark):
    """RegDB: thermal and visible images, in one of ten splits."""

    protocols: ClassVar[tuple[Protocol, ...]] = ("cross_modality",)
    source: Literal["regdb"]
    split: Annotated[int, Field(ge=1, le=10)] = 1
    """Which of the ten splits to train and test on; published figures are means over all."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark."""
        return kit.read_regdb(root, split=self.split, counts=self.counts)


class Llcm(Benchmark):
    """LLCM: near-infrared and visible images."""

    protocols: ClassVar[tuple[Protocol, ...]] = ("llcm",)
    source: Literal["llcm"]

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark."""
        return kit.read_llcm(root, counts=self.counts)


class AerialGround(Benchmark):
    """A benchmark of aerial and ground views."""

    protocols: ClassVar[tuple[Protocol, ...]] = ("cross_view",)
    source: Literal["ag_reid", "cargo"]

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark."""
        match self.source:
            case "ag_reid":
                return kit.read_ag_reid(root, counts=self.counts)
            case "cargo":
                return kit.read_cargo(root, counts=self.counts)


class Msmt17(Benchmark):
    """MSMT17."""

    source: Literal["msmt17"]
    merge_val: bool = True
    """Train on the images of both `train` and `val`."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark."""
        return kit.read_msmt17(root, merge_val=self.merge_val, counts=self.counts)


class Mars(Benchmark):
    """MARS, whose images are frames of tracklets."""

    source: Literal["mars"]
    queries_in_gallery: bool = False
    """Whether each query is also a gallery tracklet, as in the authors' evaluation."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark."""
        return kit.read_mars(root, queries_in_gallery=self.queries_in_gallery, counts=self.counts)


class Cuhk03(Benchmark):
    """CUHK03."""

    source: Literal["cuhk03"]
    boxes: Literal["labeled", "detected"] = "labeled"
    """Which bounding boxes to read."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark."""
        return kit.read_cuhk03(root, boxes=self.boxes, counts=self.counts)


class VehicleID(Benchmark):
    """VehicleID."""

    protocols: ClassVar[tuple[Protocol, ...]] = ("splits",)
    source: Literal["vehicleid"]
    test_identities: Literal[800, 1600, 2400] = 800
    """Which list of test identities to read."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark."""
        return kit.read_vehicleid(root, test_identities=self.test_identities, counts=self.counts)


class Hands(Benchmark):
    """A data set of hands, of which one aspect is trained on and tested."""

    aspect: Aspect = "dorsal_r"
    """Aspect of the hand; the other aspects are distractors."""


class Hands11k(Hands):
    """11k Hands."""

    protocols: ClassVar[tuple[Protocol, ...]] = ("splits", "distractors")
    source: Literal["hands11k"]

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark."""
        return kit.read_hands11k(root, counts=self.counts)


class PolyUHands(Hands):
    """HK PolyU hands, whose galleries hold distractors already."""

    protocols: ClassVar[tuple[Protocol, ...]] = ("splits",)
    source: Literal["polyu_hands"]

    def read(self, root: str) -> list[ImageRecord]:
        """Read the benchmark."""
        return kit.read_polyu_hands(root, counts=self.counts)
