"""The section `data`: a model for each source, with its keys and how its images are read."""

from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator, Field, PositiveInt
from tqdm import tqdm

from clipreid_kit import data as kit
from clipreid_kit.data import ImageRecord, fashion
from examples.settings.section import Fraction, FractionBelowOne, Needs, Section, default_tag

Protocol = Literal[
    "query_gallery",
    "splits",
    "distractors",
    "leave_one_out",
    "single_shot",
    "text_to_person",
    "cross_modality",
    "cross_view",
    "sysu_all",
    "sysu_all_multi",
    "sysu_indoor",
    "sysu_indoor_multi",
    "llcm",
]
Look = Literal["plain", "night", "drawing"]
Aspect = Literal["dorsal_r", "dorsal_l", "palmar_r", "palmar_l"]

PAIR_TERMS = (
    *("supcon_text", "info_nce", "hard_negative", "triplet_text"),
    *("sdm", "triplet_alignment", "cmpm"),
)  # they compare images with captions
TEXT_TERMS = (*PAIR_TERMS, "id_text", "masked_language")
TRAINS = Needs("stage: not zero_shot")
TRAINS_ON_CAPTIONS = Needs(*(f"loss.{term}" for term in TEXT_TERMS))
_VARIED = Needs("data.caption_variations > 1")
_BALANCED = Needs("data.balance")

# The folders of a data set; the first three are required for training, the next two of a test.
_SPLITS = ("train", "query", "gallery", "val_query", "val_gallery", "val", "test")


class Images(Section):
    """Where images, identities and captions come from."""

    protocols: ClassVar[tuple[Protocol, ...]] = ("query_gallery",)
    """How the source is evaluated if `evaluate.protocols` is empty."""

    validation: Annotated[FractionBelowOne, TRAINS] = 0.0
    """Fraction of the training identities that is held out to choose the epoch."""
    texts: str | None = None
    """JSON file of captions, relative to the images or to the working directory."""
    texts_key: Annotated[Literal["identity", "variant", "image"], Needs("data.texts")] = "identity"
    """Meaning of the keys of that file."""
    caption: str | None = None
    """One sentence for all images, with fields such as {identity}, {aspect} and {camera}."""
    token_safe: bool = False
    """Shorten long captions at the end of a sentence instead of at the last token that fits."""
    max_tokens: Annotated[int, Field(ge=3), Needs("data.token_safe")] = 77
    """Longest caption in tokens, start and end included; at most the model's context length."""
    caption_variations: Annotated[PositiveInt, TRAINS_ON_CAPTIONS] = 1
    """Wordings of a caption, of which each epoch draws one; 1 keeps the caption as it is."""
    paraphrases: Annotated[bool, _VARIED] = True
    """Whether the wordings include other sentences around the caption."""
    synonyms: Annotated[str | None, _VARIED] = None
    """JSON file of synonyms: a list of words for each word."""
    balance: Annotated[Literal["none", "category", "length", "identity"], TRAINS] = "none"
    """Groups of training images that are brought to equal size."""
    at_most: Annotated[PositiveInt | None, _BALANCED] = None
    """Most images of a group; defaults to the smallest group, or to any number with `at_least`."""
    at_least: Annotated[PositiveInt | None, _BALANCED] = None
    """Fewest images of a group, reached by repeating images."""
    trial_identities: Annotated[int | None, Field(ge=4)] = None
    """Keep only so many identities of each split, and about eight images of each, for a trial."""
    check: Literal["files", "raise", "skip"] = "files"
    """Check that files exist, or decode every image and stop at, or skip, the faulty ones."""
    orientations: Annotated[Literal[1, 4, 8], TRAINS] = 1
    """Derived training identities: quarter turns (4), also mirrored (8)."""
    cache: Annotated[bool, TRAINS] = False
    """Keep decoded training images in memory."""
    workers: Annotated[int, Field(ge=0, le=256)] = 1
    """Processes that load images."""
    pin_memory: Annotated[bool, TRAINS] = False
    """Load batches into page-locked memory, for a GPU."""

    def too_long(self) -> Literal["sentence", "cut"]:
        """Where a caption ends that is longer than the model's context."""
        return "sentence" if self.token_safe else "cut"


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


class Stored(Images):
    """Images that exist."""

    root: str | None = None
    """Folder, table or zip file of the images; `--data` sets it."""

    def read(self, root: str) -> list[ImageRecord]:
        """Read the records of the images at a root."""
        raise NotImplementedError


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
