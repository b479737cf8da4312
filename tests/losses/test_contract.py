"""One contract for every loss: whatever batch comes, the loss and its gradient are finite and connected."""

import contextlib
import copy
import functools
import math
import pickle

import pytest
import torch

from clipreid_kit import linear_ramp
from clipreid_kit.losses import (
    ArcFaceHead,
    ArcFaceLoss,
    CenterLoss,
    CircleLoss,
    CosFaceHead,
    CosFaceLoss,
    CrossBatchMemory,
    HardNegativeContrastiveLoss,
    ImageToTextCELoss,
    InfoNCELoss,
    MultiSimilarityLoss,
    PrototypeMemoryLoss,
    ProxyAnchorLoss,
    SigLIPLoss,
    SupConLoss,
    TripletLoss,
    WeightedSum,
    WeightedTripletLoss,
)


class Called(torch.nn.Module):
    """A loss that takes more than embeddings and labels: ``call(loss, images, texts, labels)``."""

    def __init__(self, loss, call):
        super().__init__()
        self.loss = loss
        self.call = call

    def forward(self, embeddings, labels):
        texts = embeddings.roll(1, dims=1) + 0.3 * embeddings
        return self.call(self.loss, embeddings, texts, labels)


class Classified(Called):
    """A loss with a weight for each of 6 identities, of width 8: here a single row has a loss, as any other."""


def padded(rows):
    return torch.nn.functional.pad(rows, (0, 8 - rows.shape[1]))


def classified(loss, images, texts, labels):
    return loss(padded(images), labels)


def head_and_cross_entropy(head, images, texts, labels):
    logits = head(padded(images), labels)
    summed = torch.nn.functional.cross_entropy(logits, labels.long(), reduction="sum")
    return summed / max(len(images), 1)  # torch's mean over no rows is not a number


def by_pairs(loss, images, texts, labels):
    return loss(images, texts)


def across(loss, images, texts, labels):
    return loss(images, labels, texts, labels)


REMEMBERED = torch.randn(8, 8, generator=torch.Generator().manual_seed(4))


def widened(images):
    return torch.nn.functional.pad(images, (0, 8 - images.shape[1]))


def against_trained_texts(loss, images, texts, labels):
    return loss(images, labels % max(len(labels), 1), texts)


def against_fixed_texts(loss, images, texts, labels):
    num_texts = max(len(labels), 1)
    return loss(widened(images), labels % num_texts, REMEMBERED[:num_texts])


def with_prototypes(loss, images, texts, labels):
    loss.initialize(REMEMBERED[labels.long()], labels)
    return loss(widened(images), labels)


def with_queue(loss, images, texts, labels):
    loss.queue.reset()
    loss.queue.enqueue(REMEMBERED[labels.long()], labels)
    return loss(widened(images), labels)


def to_centers(loss, images, texts, labels):
    return loss(torch.nn.functional.pad(images, (0, 8 - images.shape[1])), labels)


def center():
    loss = CenterLoss(8, 8)
    with torch.no_grad():
        loss.centers[0] = torch.eye(8)[0]  # where the batch of one row is
    return loss


def summed(loss, images, texts, labels):
    return loss(
        {
            "text": SupConLoss()(images, labels, texts, labels),
            "triplet": TripletLoss()(images, labels),
        },
        step=3,
    )[0]


def weighted(balance):
    """In evaluation mode, with running means: in training mode a call changes the next one's value."""
    loss = WeightedSum(
        {"text": 1.0, "triplet": functools.partial(linear_ramp, start=0, end=6)}, balance=balance
    )
    loss({"text": torch.tensor(4.0), "triplet": torch.tensor(0.5)}, step=3)
    return Called(loss.eval(), summed)


def by_labelled_pairs(loss, images, texts, labels):
    return loss(images, texts, labels)


LOSSES = {
    "supcon": SupConLoss,
    "supcon-cold": lambda: SupConLoss(0.01),
    "supcon-sum": lambda: SupConLoss(positives="sum"),
    "supcon-text": lambda: Called(SupConLoss(), across),
    "info_nce": lambda: Called(InfoNCELoss(), by_pairs),
    "info_nce-cold": lambda: Called(InfoNCELoss(0.01), by_pairs),
    "info_nce-learned": lambda: Called(InfoNCELoss(learnable=True), by_pairs),
    "triplet": TripletLoss,
    "triplet-soft": lambda: TripletLoss(None),
    "triplet-cosine": lambda: TripletLoss(distance="cosine"),
    "triplet-semi-hard": lambda: TripletLoss(mining="semi_hard"),
    "triplet-all": lambda: TripletLoss(mining="all"),
    "triplet-all-soft": lambda: TripletLoss(None, mining="all"),
    "triplet-all-cosine": lambda: TripletLoss(mining="all", distance="cosine"),
    # image against text
    "supcon-blocks": lambda: SupConLoss(block_size=5),
    "supcon-sum-blocks": lambda: SupConLoss(positives="sum", block_size=5),
    "supcon-text-blocks": lambda: Called(SupConLoss(block_size=5), across),
    "info_nce-blocks": lambda: Called(InfoNCELoss(learnable=True, block_size=5), by_pairs),
    "info_nce-smoothed": lambda: Called(InfoNCELoss(learnable=True, label_smoothing=0.1), by_pairs),
    "info_nce-smoothed-blocks": lambda: Called(
        InfoNCELoss(label_smoothing=0.1, block_size=5), by_pairs
    ),
    "info_nce-focal": lambda: Called(InfoNCELoss(focal_gamma=2.0, focal_alpha=0.5), by_pairs),
    "info_nce-focal-blocks": lambda: Called(
        InfoNCELoss(0.01, focal_gamma=0.5, block_size=5), by_pairs
    ),
    "siglip": lambda: Called(SigLIPLoss(), by_pairs),
    "siglip-fixed": lambda: Called(SigLIPLoss(learnable=False), by_pairs),
    "siglip-labels-blocks": lambda: Called(SigLIPLoss(block_size=5), by_labelled_pairs),
    "hard_negative": lambda: Called(HardNegativeContrastiveLoss(), by_pairs),
    "hard_negative-labels": lambda: Called(
        HardNegativeContrastiveLoss(margin=-0.5), by_labelled_pairs
    ),
    "hard_negative-blocks": lambda: Called(
        HardNegativeContrastiveLoss(margin=0, block_size=5), by_labelled_pairs
    ),
    # with a memory or all classes
    # (CachedContrastive takes encoders, and runs a backward pass inside another, which no compiler can make one graph)
    "image_to_text": lambda: Called(ImageToTextCELoss(), against_trained_texts),
    "image_to_text-raw": lambda: Called(
        ImageToTextCELoss(1.0, normalize=False), against_trained_texts
    ),
    "image_to_text-fixed": lambda: Called(ImageToTextCELoss(), against_fixed_texts),
    "prototype_memory": lambda: Called(PrototypeMemoryLoss(8, 8), with_prototypes).eval(),
    "cross_batch_memory": lambda: Called(CrossBatchMemory(SupConLoss(), 8, 16), with_queue).eval(),
    # metric
    "triplet-text": lambda: Called(TripletLoss(), across),
    "triplet-all-text": lambda: Called(TripletLoss(mining="all", distance="cosine"), across),
    "triplet-violated": lambda: TripletLoss(average="violated"),
    "weighted_triplet": WeightedTripletLoss,
    "weighted_triplet-cosine": lambda: WeightedTripletLoss(distance="cosine"),
    "weighted_triplet-text": lambda: Called(WeightedTripletLoss(), across),
    "circle": CircleLoss,
    "circle-text": lambda: Called(CircleLoss(), across),
    "multi_similarity": MultiSimilarityLoss,
    "multi_similarity-every": lambda: MultiSimilarityLoss(epsilon=None),
    "multi_similarity-text": lambda: Called(MultiSimilarityLoss(), across),
    "center": lambda: Called(center(), to_centers),
    # heads
    # (with num_sampled in training mode they draw from a torch.Generator, which no compiler traces, and another sample
    # at each call: see test_class_sampling.py; in eval mode they are the losses below)
    "arcface": lambda: Classified(ArcFaceLoss(8, 6), classified),
    "arcface-easy": lambda: Classified(
        ArcFaceLoss(8, 6, fallback="easy", label_smoothing=0.1), classified
    ),
    "arcface-cold": lambda: Classified(ArcFaceLoss(8, 6, scale=64.0, margin=2.0), classified),
    "arcface-centers": lambda: Classified(
        ArcFaceLoss(8, 6, num_centers=3, label_smoothing=0.1), classified
    ),
    "arcface-head": lambda: Classified(ArcFaceHead(8, 6), head_and_cross_entropy),
    "arcface-sampled": lambda: Classified(ArcFaceLoss(8, 6, num_sampled=6), classified).eval(),
    "cosface": lambda: Classified(CosFaceLoss(8, 6), classified),
    "cosface-centers": lambda: Classified(CosFaceLoss(8, 6, num_centers=2), classified),
    "cosface-head": lambda: Classified(CosFaceHead(8, 6, num_centers=2), head_and_cross_entropy),
    "proxy_anchor": lambda: Classified(ProxyAnchorLoss(8, 6), classified),
    # sums of losses
    "weighted_sum": lambda: weighted("none"),
    "weighted_sum-magnitude": lambda: weighted("magnitude"),
    "weighted_sum-uncertainty": lambda: weighted("uncertainty"),
}

axis = torch.eye(8)
BATCHES = {
    "ordinary": (
        torch.randn(8, 8, generator=torch.Generator().manual_seed(1)),
        [0, 0, 0, 1, 1, 1, 2, 2],
    ),
    "ragged": (
        torch.randn(7, 8, generator=torch.Generator().manual_seed(2)),
        [0, 0, 0, 0, 1, 1, 2],
    ),
    "no rows": (torch.zeros(0, 8), []),
    "one row": (axis[:1], [0]),
    "one class": (torch.randn(4, 8, generator=torch.Generator().manual_seed(3)), [5, 5, 5, 5]),
    "no positives": (axis[:4], [0, 1, 2, 3]),
    "identical": (torch.ones(6, 8), [0, 0, 1, 1, 2, 2]),
    "cosine +-1": (torch.stack([axis[0], axis[0], -axis[0], -axis[0]]), [0, 1, 0, 1]),
    "zero vectors": (torch.zeros(4, 8), [0, 0, 1, 1]),
    "one zero vector": (torch.cat([torch.zeros(1, 8), axis[:3]]), [0, 0, 1, 1]),
    "tiny": (axis.roll(1, 0) * 1e-4 + 1e-5, [0, 0, 1, 1, 2, 2, 3, 3]),
    "huge": (axis.roll(1, 0) * 1e4 + 1e3, [0, 0, 1, 1, 2, 2, 3, 3]),
}


@pytest.fixture(params=LOSSES, ids=str)
def loss(request):
    return LOSSES[request.param]()


def run(loss, rows, labels, autocast=None):
    rows = rows.clone().requires_grad_(True)
    with autocast or contextlib.nullcontext():
        value = loss(rows, torch.tensor(labels, dtype=torch.long))
    value.backward()
    return value.detach(), rows.grad


@pytest.mark.parametrize("batch", BATCHES, ids=str)
@pytest.mark.parametrize(
    "precision", ["float32", "float64", "float16", "bfloat16", "fp16 autocast", "bf16 autocast"]
)
def test_finite_and_connected(loss, batch, precision):
    rows, labels = BATCHES[batch]
    if precision == "float16" and batch == "tiny":
        rows = (
            rows * 100
        )  # a gradient of 1 / (temperature x norm) = 1e6 is beyond what a float16 tensor can hold
    if precision.endswith("autocast"):
        dtype = torch.float16 if precision == "fp16 autocast" else torch.bfloat16
        value, gradient = run(loss, rows, labels, torch.autocast("cpu", dtype=dtype))
    else:
        value, gradient = run(loss, rows.to(getattr(torch, precision)), labels)
    assert value.dtype == (torch.float64 if precision == "float64" else torch.float32)
    assert math.isfinite(value.item())
    assert gradient is not None
    assert gradient.isfinite().all()
    # to SigLIP a single pair is a question, and so is a single row to a loss over classes
    alone = isinstance(loss, Classified) or (
        isinstance(loss, Called) and isinstance(loss.loss, SigLIPLoss)
    )
    if batch == "no rows" or (batch == "one row" and not alone):
        assert value.item() == pytest.approx(0, abs=1e-6)
    if batch == "no positives" and not isinstance(loss, Called):
        assert value.item() == 0


def test_a_row_that_is_not_a_number_is_seen(loss):
    rows, labels = BATCHES["ordinary"]
    rows = rows.clone()
    rows[1, 0] = math.nan
    value = loss(rows, torch.tensor(labels))
    assert value.isnan(), "a broken batch went unnoticed"


def test_autocast_changes_nothing(loss):
    rows, labels = BATCHES["ordinary"]
    plain, plain_gradient = run(loss, rows, labels)
    cast, cast_gradient = run(loss, rows, labels, torch.autocast("cpu", dtype=torch.bfloat16))
    assert torch.equal(plain, cast)
    assert torch.equal(plain_gradient, cast_gradient)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_integer_labels_of_any_width(loss, dtype):
    rows, labels = BATCHES["ordinary"]
    assert torch.equal(
        loss(rows, torch.tensor(labels, dtype=dtype)), loss(rows, torch.tensor(labels))
    )


def test_inputs_stay_unmodified_and_need_not_be_contiguous(loss):
    rows, labels = BATCHES["ordinary"]
    strided = torch.stack([rows, rows], dim=2)[:, :, 0]
    assert not strided.is_contiguous()
    before = strided.clone()
    assert loss(strided, torch.tensor(labels)).item() == pytest.approx(
        loss(rows, torch.tensor(labels)).item()
    )
    assert torch.equal(strided, before)


def test_state_dict_pickle_deepcopy(loss):
    rows, labels = BATCHES["ordinary"]
    want = loss(rows, torch.tensor(labels))
    for clone in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        clone.load_state_dict(loss.state_dict())
        assert torch.equal(clone(rows, torch.tensor(labels)), want)
        assert repr(clone) == repr(loss)


def test_falls_along_its_gradient(loss):
    rows, labels = BATCHES["ordinary"]
    rows = rows * 0.3  # near enough for every kind of mining to find a violation
    value, gradient = run(loss, rows, labels)
    assert value > 0
    smaller, _ = run(loss, rows - 1e-3 * gradient / gradient.norm(), labels)
    assert smaller < value


def test_gradient_is_right(loss):
    if isinstance(getattr(loss, "loss", loss), CircleLoss):
        return  # its weights carry no gradient, as in the paper: test_circle compares with that
    rows, labels = BATCHES["ragged"]
    if isinstance(loss, Called):
        loss = loss.double()
    assert torch.autograd.gradcheck(
        lambda r: loss(r, torch.tensor(labels)),
        rows[:, :5].double().requires_grad_(True),
        fast_mode=True,
    )


@pytest.mark.unhooked
@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning"
)  # torch 2.6, about itself
@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning"
)  # torch 2.6's own tracing
@pytest.mark.filterwarnings(
    "ignore:.*should not be instantiated:DeprecationWarning"
)  # torch 2.6, of its own making
@pytest.mark.parametrize("name", LOSSES, ids=str)
def test_compiles_in_one_graph(name):
    torch._dynamo.reset()
    rows, labels = BATCHES["ordinary"]
    loss = LOSSES[name]().eval()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    got = compiled(rows, torch.tensor(labels))
    assert got.item() == pytest.approx(loss(rows, torch.tensor(labels)).item(), rel=1e-5)
