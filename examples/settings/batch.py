"""The sections `batch`, `tracklets`, `mining` and `clusters`: the images of a batch."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

from examples.settings.section import Needs, Section, default_tag


class Batch(Section):
    """PK batches; see `clipreid_kit.PKSampler`. With one instance, all identities are distinct."""

    num_identities: PositiveInt = 16
    """Identities of a batch, P."""
    num_instances: PositiveInt = 4
    """Images of each identity, K."""
    coverage: Literal["identities", "images"] = "images"
    """Whether an epoch shows every identity once, or every image at least once."""
    balance_domains: bool = False
    """Fill each batch with identities of every domain, by the column `domain` of the images."""
    domain_shares: Annotated[list[PositiveFloat], Needs("batch.balance_domains")] = Field(
        default_factory=list
    )
    """Their shares in the order of the domains' names; empty for equal ones."""
    spread_cameras: Annotated[bool, Needs("batch.num_instances > 1")] = True
    """Take the images of an identity from as many of its cameras as possible."""
    across: Annotated[Literal["none", "modality", "view"], Needs("batch.num_instances > 1")] = (
        "none"
    )
    """Take equally many images of an identity of each modality, or view, of which
    `num_instances` is a multiple; identities that lack one are left out."""

    @model_validator(mode="after")
    def _one_column_is_balanced(self) -> Self:
        if self.balance_domains and self.across != "none":
            raise ValueError("`balance_domains` and `across` balance different columns; set one")
        return self


_OF_TRACKLETS = Needs("tracklets.num_frames > 0")


class Tracklets(Section):
    """Training on tracklets of several frames (`classifier`); see `clipreid_kit.TrackletSampler`.

    A batch then has `batch.num_instances` tracklets of each identity.
    """

    num_frames: NonNegativeInt = 0
    """Frames of a tracklet in a batch, T; 0 trains on single images."""
    selection: Annotated[Literal["segments", "consecutive"], _OF_TRACKLETS] = "segments"
    """Take a random frame of each of T equal segments, or frames that follow one another."""
    stride: Annotated[PositiveInt, _OF_TRACKLETS, Needs("tracklets.selection: consecutive")] = 1
    """Distance of frames that follow one another."""
    pooling: Annotated[Literal["mean", "attention", "transformer"], _OF_TRACKLETS] = "mean"
    """How the embeddings of the frames become one."""
    blocks: Annotated[PositiveInt, _OF_TRACKLETS, Needs("tracklets.pooling: transformer")] = 1
    """Blocks of the temporal transformer."""


class AnyMining(Section):
    """Contents of a batch."""


class StandardMining(AnyMining):
    """A batch of images with their captions."""

    data: Literal["standard"] = "standard"
    """Images alone, with hard negatives, or in triplets."""


class HardNegativeMining(AnyMining):
    """A batch of images and their hard negatives."""

    data: Literal["hard_negative"]
    num_negatives: PositiveInt = 3
    """Negatives of each image."""
    negatives: Literal["semantic", "random"] = "semantic"
    """Take the most similar negatives, or any."""
    refresh_epochs: PositiveInt = 1
    """Epochs after which the mining is repeated."""


class TripletMining(AnyMining):
    """A batch of triplets: anchor, positive and negative."""

    data: Literal["triplet"]
    triplets: Literal["hardest", "semi_hard"] = "hardest"
    """Which triplets are kept."""
    positives: Literal["identity", "caption"] = "identity"
    """Take as positives images of the identity, or those with the most similar captions."""
    margin: PositiveFloat = 0.5
    """Margin of the triplets that are kept, a distance."""
    refresh_epochs: PositiveInt = 1
    """Epochs after which the mining is repeated."""


Mining = Annotated[
    StandardMining | HardNegativeMining | TripletMining,
    Field(discriminator="data"),
    default_tag("data", "standard"),
]


class Clusters(Section):
    """Pseudo labels of the training images, found anew in each epoch (`unsupervised`)."""

    method: Literal["dbscan", "average"] = "dbscan"
    """DBSCAN, or average linkage, on Jaccard distances of k-reciprocal neighbours."""
    max_distance: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Largest distance of neighbours, or largest mean distance of clusters that are joined."""
    min_samples: Annotated[PositiveInt, Needs("clusters.method: dbscan")] = 4
    """Neighbours, the image among them, that make an image the core of a cluster."""
    min_size: Annotated[int, Field(ge=2)] = 2
    """Images of a smaller cluster are outliers, and not trained on in this epoch."""
    k1: PositiveInt = 30
    """Neighbours of an image."""
    k2: PositiveInt = 6
    """Images over which the neighbours' weights are averaged."""
    steps: PositiveInt | None = None
    """Batches of an epoch; null for as many as it takes to show each image once."""
