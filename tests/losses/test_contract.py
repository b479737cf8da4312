"""One contract for every loss: for any batch the loss and its gradient are finite and connected."""

import contextlib
import copy
import functools
import inspect
import math
import pickle
import types
import typing
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch.autograd import forward_ad
from torch.utils.checkpoint import checkpoint

from clipreid_kit import linear_ramp, losses
from clipreid_kit._checks import inside_a_transform
from clipreid_kit.losses import (
    ArcFaceHead,
    ArcFaceLoss,
    CachedContrastive,
    CameraPrototypeLoss,
    CenterLoss,
    CircleLoss,
    CircleSoftmaxHead,
    ClassSampler,
    CMPCLoss,
    CMPMLoss,
    CosFaceHead,
    CosFaceLoss,
    CrossBatchMemory,
    EmbeddingQueue,
    FeatureDistillationLoss,
    HardNegativeContrastiveLoss,
    IdentityLoss,
    ImageToTextCELoss,
    InfoNCELoss,
    LogitDistillationLoss,
    MatryoshkaLoss,
    MultiSimilarityLoss,
    PartialFCLoss,
    PrototypeMemoryLoss,
    ProxyAnchorLoss,
    RecallSurrogateLoss,
    RelationalDistillationLoss,
    SDMLoss,
    SelfSupervisionLoss,
    SigLIPLoss,
    SmoothAPLoss,
    SupConLoss,
    TripletAlignmentLoss,
    TripletLoss,
    WeightedSum,
    WeightedTripletLoss,
)


class Called(torch.nn.Module):
    """A loss with other arguments, called as ``call(loss, images, texts, labels)``."""

    def __init__(self, loss, call):
        super().__init__()
        self.loss = loss
        self.call = call

    def forward(self, embeddings, labels):
        texts = embeddings.roll(1, dims=1) + 0.3 * embeddings
        return self.call(self.loss, embeddings, texts, labels)


class Classified(Called):
    """A loss with a weight for each of 6 identities, of width 8; a single row has a loss."""


def padded(rows):
    """Rows with zeros up to the width of the weights and memories, 8."""
    return torch.nn.functional.pad(rows, (0, 8 - rows.shape[1]))


STORED_ROWS = torch.randn(8, 8, generator=torch.Generator().manual_seed(4))


# How a loss is called with a batch of images, texts and labels.


def by_pairs(loss, images, texts, labels):
    return loss(images, texts)


def by_labelled_pairs(loss, images, texts, labels):
    return loss(images, texts, labels)


def against_texts(loss, images, texts, labels):
    return loss(images, labels, texts, labels)


def against_trained_texts(loss, images, texts, labels):
    return loss(images, labels % max(len(labels), 1), texts)


def against_fixed_texts(loss, images, texts, labels):
    num_texts = max(len(labels), 1)
    return loss(padded(images), labels % num_texts, STORED_ROWS[:num_texts])


def over_classes(loss, images, texts, labels):
    return loss(padded(images), labels)


def over_paired_classes(loss, images, texts, labels):
    return loss(padded(images), padded(texts), labels)


def from_a_teacher(loss, images, texts, labels):
    return loss(padded(images), STORED_ROWS[: len(images)].to(images.dtype))


def head_and_cross_entropy(head, images, texts, labels):
    logits = head(padded(images), labels)
    total = torch.nn.functional.cross_entropy(logits, labels.long(), reduction="sum")

    # torch's mean over no rows is NaN.
    return total / max(len(images), 1)


def with_prototypes(loss, images, texts, labels):
    if not inside_a_transform():
        loss.initialize(STORED_ROWS[labels.long()], labels)
    return loss(padded(images), labels)


def with_camera_prototypes(loss, images, texts, labels):
    cameras = torch.arange(len(labels), device=labels.device) % 3
    if not inside_a_transform():
        loss.initialize(STORED_ROWS[labels.long()], labels, cameras % 2)
    return loss(padded(images), labels, cameras)


def seen_by_one_camera(loss, images, texts, labels):
    return loss(images, labels, torch.zeros_like(labels))


def with_queue(loss, images, texts, labels):
    if not inside_a_transform():
        loss.queue.reset()
        loss.queue.enqueue(STORED_ROWS[labels.long()], labels)
    return loss(padded(images), labels)


def of_two_terms(loss, images, texts, labels):
    terms = {
        "text": SupConLoss()(images, labels, texts, labels),
        "triplet": TripletLoss()(images, labels),
    }
    total, _ = loss(terms, step=3)
    return total


def center_loss_with_a_hit():
    """One center is where the batch of one row is."""
    loss = CenterLoss(8, 8)
    with torch.no_grad():
        loss.centers[0] = torch.eye(8)[0]
    return loss


def weighted_sum(balance):
    """In evaluation mode, with running means: in training mode a call changes the next value."""
    weights = {"text": 1.0, "triplet": functools.partial(linear_ramp, start=0, end=6)}
    loss = WeightedSum(weights, balance=balance)
    loss({"text": torch.tensor(4.0), "triplet": torch.tensor(0.5)}, step=3)
    return Called(loss.eval(), of_two_terms)


LOSSES = {
    "supcon": SupConLoss,
    "supcon-cold": lambda: SupConLoss(0.01),
    "supcon-sum": lambda: SupConLoss(positives="sum"),
    "supcon-text": lambda: Called(SupConLoss(), against_texts),
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
    # Image against text.
    "supcon-blocks": lambda: SupConLoss(block_size=5),
    "supcon-sum-blocks": lambda: SupConLoss(positives="sum", block_size=5),
    "supcon-text-blocks": lambda: Called(SupConLoss(block_size=5), against_texts),
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
    "sdm": lambda: Called(SDMLoss(), by_labelled_pairs),
    "triplet_alignment": lambda: Called(TripletAlignmentLoss(), by_labelled_pairs),
    "cmpm": lambda: Called(CMPMLoss(), by_labelled_pairs),
    # Losses with a memory or over all classes. CachedContrastive takes encoders, and runs a
    # backward pass inside another, which no compiler can make one graph.
    "image_to_text": lambda: Called(ImageToTextCELoss(), against_trained_texts),
    "image_to_text-raw": lambda: Called(
        ImageToTextCELoss(1.0, normalize=False), against_trained_texts
    ),
    "image_to_text-fixed": lambda: Called(ImageToTextCELoss(), against_fixed_texts),
    "prototype_memory": lambda: Called(PrototypeMemoryLoss(8, 8), with_prototypes).eval(),
    "camera_prototypes": lambda: Called(
        CameraPrototypeLoss(8, 8, 3, num_negatives=4), with_camera_prototypes
    ).eval(),
    "cross_batch_memory": lambda: Called(CrossBatchMemory(SupConLoss(), 8, 16), with_queue).eval(),
    # Metric losses.
    "triplet-text": lambda: Called(TripletLoss(), against_texts),
    "triplet-all-text": lambda: Called(TripletLoss(mining="all", distance="cosine"), against_texts),
    "triplet-violated": lambda: TripletLoss(average="violated"),
    "weighted_triplet": WeightedTripletLoss,
    "weighted_triplet-cosine": lambda: WeightedTripletLoss(distance="cosine"),
    "weighted_triplet-text": lambda: Called(WeightedTripletLoss(), against_texts),
    "circle": CircleLoss,
    "circle-text": lambda: Called(CircleLoss(), against_texts),
    "multi_similarity": MultiSimilarityLoss,
    "multi_similarity-every": lambda: MultiSimilarityLoss(epsilon=None),
    "multi_similarity-text": lambda: Called(MultiSimilarityLoss(), against_texts),
    "self_supervision": lambda: Called(SelfSupervisionLoss(8), over_classes),
    "smooth_ap": lambda: SmoothAPLoss(0.1),
    "recall_surrogate": lambda: RecallSurrogateLoss([1, 2], 0.1),
    "matryoshka": lambda: MatryoshkaLoss(SupConLoss(), (3, 5)),
    # A student alone has a loss, and no classes: called as the losses over classes are.
    "feature_distillation": lambda: Classified(FeatureDistillationLoss(), from_a_teacher),
    "relational_distillation": lambda: Classified(RelationalDistillationLoss(), from_a_teacher),
    "logit_distillation": lambda: Classified(LogitDistillationLoss(), from_a_teacher),
    "center": lambda: Called(center_loss_with_a_hit(), over_classes),
    # Heads. With num_sampled in training mode they draw another sample at each call, from a
    # torch.Generator, which no compiler traces: see test_class_sampling.py. In eval mode they are
    # the losses below.
    "arcface": lambda: Classified(ArcFaceLoss(8, 6), over_classes),
    "arcface-easy": lambda: Classified(
        ArcFaceLoss(8, 6, fallback="easy", label_smoothing=0.1), over_classes
    ),
    "arcface-cold": lambda: Classified(ArcFaceLoss(8, 6, scale=64.0, margin=2.0), over_classes),
    "arcface-centers": lambda: Classified(
        ArcFaceLoss(8, 6, num_centers=3, label_smoothing=0.1), over_classes
    ),
    "arcface-head": lambda: Classified(ArcFaceHead(8, 6), head_and_cross_entropy),
    "arcface-sampled": lambda: Classified(ArcFaceLoss(8, 6, num_sampled=6), over_classes).eval(),
    "cosface": lambda: Classified(CosFaceLoss(8, 6), over_classes),
    "cosface-centers": lambda: Classified(CosFaceLoss(8, 6, num_centers=2), over_classes),
    "cosface-head": lambda: Classified(CosFaceHead(8, 6, num_centers=2), head_and_cross_entropy),
    "partial_fc": lambda: Classified(PartialFCLoss(8, 6, label_smoothing=0.1), over_classes),
    "circle_softmax-head": lambda: Classified(CircleSoftmaxHead(8, 6), head_and_cross_entropy),
    "identity": lambda: Classified(IdentityLoss(0.1), over_classes),
    "identity-focal": lambda: Classified(IdentityLoss(0.1, focal_gamma=0.5), over_classes),
    "cmpc": lambda: Classified(CMPCLoss(8, 6), over_paired_classes),
    "proxy_anchor": lambda: Classified(ProxyAnchorLoss(8, 6), over_classes),
    # Sums of losses.
    "weighted_sum": lambda: weighted_sum("none"),
    "weighted_sum-magnitude": lambda: weighted_sum("magnitude"),
    "weighted_sum-uncertainty": lambda: weighted_sum("uncertainty"),
}


# Public classes that are no losses of a batch, and where they are tested.
WITHOUT_A_CASE = {
    "CachedContrastive",  # takes encoders: test_cached_contrastive.py
    "ClassSampler",  # a part of the heads: test_class_sampling.py
    "EmbeddingQueue",  # a part of CrossBatchMemory: test_cross_batch_memory.py
}


def test_every_loss_has_a_case():
    cases = [build() for build in LOSSES.values()]
    tested = {type(case.loss if isinstance(case, Called) else case).__name__ for case in cases}
    assert tested == {kind.__name__ for kind in CONSTRUCTORS} - WITHOUT_A_CASE


AXES = torch.eye(8)


def random_batch(num_rows, seed):
    return torch.randn(num_rows, 8, generator=torch.Generator().manual_seed(seed))


BATCHES = {
    "ordinary": (random_batch(8, seed=1), [0, 0, 0, 1, 1, 1, 2, 2]),
    "ragged": (random_batch(7, seed=2), [0, 0, 0, 0, 1, 1, 2]),
    "no rows": (torch.zeros(0, 8), []),
    "one row": (AXES[:1], [0]),
    "one class": (random_batch(4, seed=3), [5, 5, 5, 5]),
    "no positives": (AXES[:4], [0, 1, 2, 3]),
    "identical": (torch.ones(6, 8), [0, 0, 1, 1, 2, 2]),
    "cosine +-1": (torch.stack([AXES[0], AXES[0], -AXES[0], -AXES[0]]), [0, 1, 0, 1]),
    "zero vectors": (torch.zeros(4, 8), [0, 0, 1, 1]),
    "one zero vector": (torch.cat([torch.zeros(1, 8), AXES[:3]]), [0, 0, 1, 1]),
    "tiny": (AXES.roll(1, 0) * 1e-4 + 1e-5, [0, 0, 1, 1, 2, 2, 3, 3]),
    "huge": (AXES.roll(1, 0) * 1e4 + 1e3, [0, 0, 1, 1, 2, 2, 3, 3]),
}

PRECISIONS = {
    "float32": torch.float32,
    "float64": torch.float64,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}


@pytest.fixture(params=LOSSES, ids=str)
def loss(request):
    return LOSSES[request.param]()


def value_and_gradient(loss, rows, labels, autocast=None):
    rows = rows.clone().requires_grad_(True)
    with autocast or contextlib.nullcontext():
        value = loss(rows, torch.tensor(labels, dtype=torch.long))
    value.backward()

    return value.detach(), rows.grad


def has_a_loss_for_a_single_row(loss):
    """For SigLIP a single pair is a question, and for a loss over classes so is a single row."""
    of_pairs = isinstance(loss, Called) and isinstance(loss.loss, SigLIPLoss)
    return of_pairs or isinstance(loss, Classified)


def check_value(loss, batch, value):
    """The value is finite, and zero where there is nothing to compare."""
    assert math.isfinite(value.item())

    if batch == "no rows" or (batch == "one row" and not has_a_loss_for_a_single_row(loss)):
        assert value.item() == pytest.approx(0, abs=1e-6)

    if batch == "no positives" and not isinstance(loss, Called):
        assert value.item() == 0


@contextlib.contextmanager
def named(*case):
    """Names the case in the error of a test that goes through many."""
    try:
        yield
    except Exception as error:
        raise AssertionError(f"{', '.join(case)}: {error}") from error


@pytest.mark.parametrize("name", LOSSES, ids=str)
def test_finite_and_connected(name):
    for precision, dtype in PRECISIONS.items():
        for batch, (rows, labels) in BATCHES.items():
            # A gradient of 1 / (temperature x norm) = 1e6 is beyond what a float16 tensor can hold.
            factor = 100 if precision == "float16" and batch == "tiny" else 1
            loss = LOSSES[name]()

            with named(precision, batch):
                value, gradient = value_and_gradient(loss, (factor * rows).to(dtype), labels)

                check_value(loss, batch, value)
                assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
                assert gradient is not None
                assert gradient.isfinite().all()


@pytest.mark.parametrize("name", LOSSES, ids=str)
def test_finite_and_connected_under_autocast(name):
    """In the narrowest range; in bfloat16 the next but one compares the bits."""
    for batch, (rows, labels) in BATCHES.items():
        loss = LOSSES[name]()

        with named(batch):
            context = torch.autocast("cpu", dtype=torch.float16)
            value, gradient = value_and_gradient(loss, rows, labels, context)

            check_value(loss, batch, value)
            assert value.dtype == torch.float32
            assert gradient is not None
            assert gradient.isfinite().all()


def test_a_row_that_is_not_a_number_shows(loss):
    rows, labels = BATCHES["ordinary"]
    rows = rows.clone()
    rows[1, 0] = math.nan

    value = loss(rows, torch.tensor(labels))

    assert value.isnan()


def test_autocast_changes_nothing(loss):
    rows, labels = BATCHES["ordinary"]
    plain, plain_gradient = value_and_gradient(loss, rows, labels)

    context = torch.autocast("cpu", dtype=torch.bfloat16)
    cast, cast_gradient = value_and_gradient(loss, rows, labels, context)

    assert torch.equal(plain, cast)
    assert torch.equal(plain_gradient, cast_gradient)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_integer_labels_of_any_width(loss, dtype):
    rows, labels = BATCHES["ordinary"]
    got = loss(rows, torch.tensor(labels, dtype=dtype))
    assert torch.equal(got, loss(rows, torch.tensor(labels)))


def test_inputs_stay_unmodified_and_need_not_be_contiguous(loss):
    rows, labels = BATCHES["ordinary"]
    strided = torch.stack([rows, rows], dim=2)[:, :, 0]
    assert not strided.is_contiguous()
    before = strided.clone()

    got = loss(strided, torch.tensor(labels))

    assert got.item() == pytest.approx(loss(rows, torch.tensor(labels)).item())
    assert torch.equal(strided, before)


def copied(loss):
    return copy.deepcopy(loss)


def pickled(loss):
    return pickle.loads(pickle.dumps(loss))


@pytest.mark.parametrize("clone", [copied, pickled])
def test_state_dict_pickle_deepcopy(loss, clone):
    rows, labels = BATCHES["ordinary"]
    want = loss(rows, torch.tensor(labels))

    again = clone(loss)
    again.load_state_dict(loss.state_dict())

    assert torch.equal(again(rows, torch.tensor(labels)), want)
    assert repr(again) == repr(loss)


def test_falls_along_its_gradient(loss):
    rows, labels = BATCHES["ordinary"]
    # Near enough for every kind of mining to find a violation.
    rows = rows * 0.3

    value, gradient = value_and_gradient(loss, rows, labels)
    smaller, _ = value_and_gradient(loss, rows - 1e-3 * gradient / gradient.norm(), labels)

    assert value > 0
    assert smaller < value


def has_weights_without_gradient(loss):
    """As in their papers, so that the gradient is not that of the value: see the tests of each."""
    detached = CircleLoss | CircleSoftmaxHead | TripletAlignmentLoss
    return isinstance(getattr(loss, "loss", loss), detached)


def test_gradient_is_right(loss):
    if has_weights_without_gradient(loss):
        return

    rows, labels = BATCHES["ragged"]
    if isinstance(loss, Called):
        loss = loss.double()

    assert torch.autograd.gradcheck(
        lambda r: loss(r, torch.tensor(labels)),
        rows[:, :5].double().requires_grad_(True),
        fast_mode=True,
    )


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize(
    "name",  # a loss with its defaults, and the slow ones with other options
    [pytest.param(name, marks=[pytest.mark.slow] if "-" in name else []) for name in LOSSES],
)
def test_compiles_in_one_graph(name):
    torch._dynamo.reset()
    rows, labels = BATCHES["ordinary"]
    loss = LOSSES[name]().eval()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    got = compiled(rows, torch.tensor(labels))

    assert got.item() == pytest.approx(loss(rows, torch.tensor(labels)).item(), rel=1e-5)


# Composition with torch.


@pytest.mark.parametrize("reentrant", [False, True])
def test_inside_a_checkpoint(loss, reentrant):
    rows, labels = BATCHES["ordinary"]
    want, want_gradient = value_and_gradient(loss, rows, labels)

    rows = rows.clone().requires_grad_()
    labels = torch.tensor(labels)
    got = checkpoint(lambda rows: loss(rows, labels), rows, use_reentrant=reentrant)
    got.backward()

    torch.testing.assert_close(got.detach(), want)
    torch.testing.assert_close(rows.grad, want_gradient)


def test_gradients_by_torch_func(loss):
    rows, labels = BATCHES["ordinary"]
    want, want_gradient = value_and_gradient(loss, rows, labels)
    labels = torch.tensor(labels)

    gradient, value = torch.func.grad_and_value(lambda rows: loss(rows, labels))(rows)
    torch.testing.assert_close(value, want)
    torch.testing.assert_close(gradient, want_gradient, atol=1e-5, rtol=1e-4)

    jacobian = torch.func.jacrev(lambda rows: 2 * loss(rows, labels))(rows)
    torch.testing.assert_close(jacobian, 2 * want_gradient, atol=1e-5, rtol=1e-4)


def test_gradients_of_parameters_by_functional_call(loss):
    rows, labels = BATCHES["ordinary"]
    value_and_gradient(loss, rows, labels)
    labels = torch.tensor(labels)
    parameters = dict(loss.named_parameters())
    want = {name: parameter.grad for name, parameter in parameters.items()}

    def call(parameters):
        return torch.func.functional_call(loss, parameters, (rows, labels))

    detached = {name: parameter.detach() for name, parameter in parameters.items()}
    got = torch.func.grad(call)(detached)

    for name in parameters:
        torch.testing.assert_close(got[name], want[name], atol=1e-5, rtol=1e-4)


def is_in_plain_autograd(loss):
    """Losses over classes are, inside a transform; the others compute their gradient themselves."""
    if isinstance(loss, Classified):
        return True
    inner = getattr(loss, "loss", loss)
    return isinstance(
        inner, CenterLoss | ImageToTextCELoss | PrototypeMemoryLoss | CameraPrototypeLoss
    )


@pytest.mark.unhooked
def test_vmap_is_right_or_refused(loss):
    rows, labels = BATCHES["ordinary"]
    labels = torch.tensor(labels)
    want = loss(rows, labels)
    both = torch.stack([rows, rows.flip(0)])

    if is_in_plain_autograd(loss):
        got = torch.func.vmap(lambda rows: loss(rows, labels))(both)
        torch.testing.assert_close(got[0], want)
        return

    for batch_labels in (None, 0):
        with pytest.raises(RuntimeError, match=r"^\w+_loss: torch.func.vmap is not supported"):
            torch.func.vmap(loss, in_dims=(0, batch_labels))(
                both, labels if batch_labels is None else torch.stack([labels, labels])
            )


@pytest.mark.unhooked
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:FutureWarning")  # torch's own
@pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")
def test_forward_mode_is_right_or_refused(loss):
    rows, labels = BATCHES["ordinary"]
    want, gradient = value_and_gradient(loss, rows, labels)
    labels = torch.tensor(labels)
    tangent = torch.ones_like(rows)

    if is_in_plain_autograd(loss):
        value, derivative = torch.func.jvp(lambda rows: loss(rows, labels), (rows,), (tangent,))
        torch.testing.assert_close(value, want)
        assert derivative.item() == pytest.approx(gradient.sum().item(), abs=1e-5, rel=1e-4)
        return

    refused = r"^\w+_loss: forward-mode derivatives .* are not supported.* Take \w+_definition"
    with pytest.raises(RuntimeError, match=refused):
        torch.func.jvp(lambda rows: loss(rows, labels), (rows,), (tangent,))

    with forward_ad.dual_level(), pytest.raises(RuntimeError, match=refused):
        loss(forward_ad.make_dual(rows, tangent), labels)


@pytest.mark.unhooked
def test_second_derivatives_by_torch_func_are_right_or_refused(loss):
    rows, labels = BATCHES["ragged"]
    rows = 0.3 * rows.double()
    labels = torch.tensor(labels)
    if isinstance(loss, Called):
        loss = loss.double()
    loss(rows, labels)

    def slope(rows):
        return torch.func.grad(lambda rows: loss(rows, labels))(rows)[0, 0]

    if not is_in_plain_autograd(loss):
        # Also where the derivative of the gradient is taken by autograd itself.
        with pytest.raises(RuntimeError, match="first derivatives only, no second derivative"):
            torch.func.grad(slope)(rows)
        with pytest.raises(RuntimeError, match="first derivatives only, no second derivative"):
            slope(rows.clone().requires_grad_()).backward()
        return

    second = torch.func.grad(slope)(rows)
    if has_weights_without_gradient(loss):
        return

    step = torch.zeros_like(rows)
    step[0, 0] = 1e-5
    difference = (slope(rows + step) - slope(rows - step)) / 2e-5
    torch.testing.assert_close(second[0, 0], difference, atol=1e-5, rtol=1e-4)


def test_four_threads_get_what_one_gets(loss):
    rows, labels = BATCHES["ordinary"]
    want, want_gradient = value_and_gradient(loss, rows, labels)

    with ThreadPoolExecutor(4) as threads:
        copies = [copy.deepcopy(loss) for _ in range(4)]
        results = list(threads.map(lambda loss: value_and_gradient(loss, rows, labels), copies))

    for value, gradient in results:
        assert torch.equal(value, want)
        assert torch.equal(gradient, want_gradient)


# Arguments that hold no numbers where the loss looks for them.


def nested(rows):
    return torch.nested.nested_tensor([rows[:1], rows[1:]], layout=torch.jagged)


LAYOUTS = {
    "sparse": lambda rows: rows.to_sparse(),
    "nested": nested,
    "meta": lambda rows: rows.to("meta"),
}


CHECKED = [
    SupConLoss,
    InfoNCELoss,
    SigLIPLoss,
    HardNegativeContrastiveLoss,
    SDMLoss,
    TripletAlignmentLoss,
    CMPMLoss,
    CMPCLoss,
    TripletLoss,
    WeightedTripletLoss,
    CircleLoss,
    MultiSimilarityLoss,
    CenterLoss,
    ImageToTextCELoss,
    PrototypeMemoryLoss,
    CrossBatchMemory,
    ArcFaceHead,
    ArcFaceLoss,
    CosFaceHead,
    CosFaceLoss,
    CircleSoftmaxHead,
    IdentityLoss,
    PartialFCLoss,
    ProxyAnchorLoss,
    SelfSupervisionLoss,
]


PAIR_LOSSES = (
    InfoNCELoss,
    SigLIPLoss,
    HardNegativeContrastiveLoss,
    SDMLoss,
    TripletAlignmentLoss,
    CMPMLoss,
    CMPCLoss,
)


@pytest.mark.unhooked
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", CHECKED, ids=lambda kind: kind.__name__)
def test_tensors_that_are_not_dense_are_errors(kind, layout):
    loss = kind(**CONSTRUCTORS[kind])
    rows = random_batch(6, seed=1)
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    convert = LAYOUTS[layout]

    if kind in PAIR_LOSSES:
        calls = [(convert(rows), rows, labels), (rows, convert(rows), labels)]
        if kind is InfoNCELoss:
            calls = [arguments[:2] for arguments in calls]
        else:
            calls.append((rows, rows, convert(labels)))
    elif kind is ImageToTextCELoss:
        calls = [(rows, labels, convert(rows)), (rows, convert(labels), rows)]
    else:
        calls = [(convert(rows), labels), (rows, convert(labels))]

    for arguments in calls:
        with pytest.raises(ValueError, match=r"^\w+: expected \w+ as a dense tensor, got "):
            loss(*arguments)


CLASS_LOSSES = [
    CMPCLoss,
    CenterLoss,
    ImageToTextCELoss,
    PrototypeMemoryLoss,
    ArcFaceHead,
    ArcFaceLoss,
    CosFaceHead,
    CosFaceLoss,
    CircleSoftmaxHead,
    PartialFCLoss,
    ProxyAnchorLoss,
]


@pytest.mark.parametrize("label", [-1, -100, 6, 1501])
@pytest.mark.parametrize("kind", CLASS_LOSSES, ids=lambda kind: kind.__name__)
def test_a_label_out_of_range_is_an_error(kind, label):
    loss = kind(**CONSTRUCTORS[kind])
    rows = random_batch(6, seed=1)
    arguments = [rows, torch.tensor([0, 1, 2, 3, 4, label])]
    if kind is ImageToTextCELoss:
        arguments.append(rows)
    if kind is CMPCLoss:
        arguments.insert(1, rows)

    expected = r"^\w+: expected labels in \[0, 6\), got labels from .* to .*\d\. \w+"
    with pytest.raises(ValueError, match=expected):
        loss(*arguments)


@pytest.mark.parametrize("kind", [ArcFaceLoss, CosFaceLoss])
def test_a_label_out_of_range_is_an_error_with_sampling(kind):
    loss = kind(dim=8, num_identities=20, num_sampled=8)
    with pytest.raises(
        ValueError, match=r"labels in \[0, 20\), got labels from -1 to 20. Number the"
    ):
        loss(random_batch(2, seed=1), torch.tensor([-1, 20]))


# Modules that change in every call in training mode.

CHANGING = {
    "CrossBatchMemory": lambda: CrossBatchMemory(SupConLoss(), 8, 16),
    "PrototypeMemoryLoss": lambda: PrototypeMemoryLoss(8, 6),
    "CameraPrototypeLoss": lambda: Called(CameraPrototypeLoss(8, 6, 2), seen_by_one_camera),
    "ClassSampler": lambda: ArcFaceLoss(8, 6, num_sampled=6),
    "WeightedSum": lambda: Called(
        WeightedSum({"text": 1.0, "triplet": 1.0}, balance="magnitude"), of_two_terms
    ),
}


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("name", CHANGING)
def test_a_loss_that_changes_itself_refuses_a_checkpoint(name, reentrant):
    loss = CHANGING[name]()
    rows, labels = random_batch(6, seed=1).requires_grad_(), torch.tensor([0, 0, 1, 1, 2, 2])
    loss(rows, labels)
    value = checkpoint(lambda rows: loss(rows, labels), rows, use_reentrant=reentrant)

    with pytest.raises(
        RuntimeError, match=rf"^{name}: .*inside a backward pass, as torch.utils.ch"
    ):
        value.backward()


@pytest.mark.parametrize("name", CHANGING)
def test_a_loss_that_changes_itself_refuses_a_transform(name):
    loss = CHANGING[name]()
    rows, labels = random_batch(6, seed=1), torch.tensor([0, 0, 1, 1, 2, 2])

    with pytest.raises(RuntimeError, match=rf"^{name}: .*inside a transform of torch.func"):
        torch.func.grad(lambda rows: loss(rows, labels))(rows)


# Constructors: what each needs besides its options.

CONSTRUCTORS = {
    ArcFaceHead: {"dim": 8, "num_identities": 6},
    ArcFaceLoss: {"dim": 8, "num_identities": 6},
    CachedContrastive: {"encode_image": abs, "encode_text": abs, "loss": abs},
    CameraPrototypeLoss: {"dim": 8, "num_identities": 6, "num_cameras": 2},
    CenterLoss: {"dim": 8, "num_identities": 6},
    CircleLoss: {},
    CircleSoftmaxHead: {"dim": 8, "num_identities": 6},
    ClassSampler: {"num_identities": 6, "num_sampled": 3},
    CMPCLoss: {"dim": 8, "num_identities": 6},
    CMPMLoss: {},
    CosFaceHead: {"dim": 8, "num_identities": 6},
    CosFaceLoss: {"dim": 8, "num_identities": 6},
    CrossBatchMemory: {"loss": SupConLoss(), "dim": 8, "size": 16},
    EmbeddingQueue: {"dim": 8, "size": 16},
    FeatureDistillationLoss: {},
    HardNegativeContrastiveLoss: {},
    IdentityLoss: {},
    ImageToTextCELoss: {},
    InfoNCELoss: {},
    LogitDistillationLoss: {},
    MatryoshkaLoss: {"loss": SupConLoss(), "dims": (4, 8)},
    MultiSimilarityLoss: {},
    PartialFCLoss: {"dim": 8, "num_identities": 6},
    PrototypeMemoryLoss: {"dim": 8, "num_identities": 6},
    ProxyAnchorLoss: {"dim": 8, "num_identities": 6},
    RecallSurrogateLoss: {},
    RelationalDistillationLoss: {},
    SDMLoss: {},
    SelfSupervisionLoss: {"dim": 8},
    SigLIPLoss: {},
    SmoothAPLoss: {},
    SupConLoss: {},
    TripletAlignmentLoss: {},
    TripletLoss: {},
    WeightedSum: {"weights": {"id": 1.0}},
    WeightedTripletLoss: {},
}


def numeric_options():
    """(class, option, whether ``None`` is allowed) of every numeric option of every constructor."""
    for kind in CONSTRUCTORS:
        for name, parameter in inspect.signature(kind).parameters.items():
            annotation = parameter.annotation
            is_union = isinstance(annotation, types.UnionType)
            allowed = typing.get_args(annotation) if is_union else (annotation,)
            if int in allowed or float in allowed:
                yield kind, name, type(None) in allowed


def wrong_numbers():
    for kind, name, is_optional in numeric_options():
        wrong_values = ["1", [1], True, torch.tensor(1)]
        if not is_optional:
            wrong_values.append(None)

        for value in wrong_values:
            yield pytest.param(kind, name, value, id=f"{kind.__name__}-{name}-{value!r}")


def test_every_constructor_of_the_package_is_listed():
    names = {kind.__name__ for kind in CONSTRUCTORS}
    public = {name for name, _ in inspect.getmembers(losses, inspect.isclass)}

    # These are results.
    assert names == public - {"ClassSample", "PairDivision"}
    assert len(list(numeric_options())) > 50


@pytest.mark.unhooked
@pytest.mark.parametrize(("kind", "name", "value"), list(wrong_numbers()))
def test_a_number_of_another_type_is_an_error_of_its_owner(kind, name, value):
    expected = f"^{kind.__name__}: expected {name} as a (finite |whole )?number"
    with pytest.raises(ValueError, match=expected):
        kind(**{**CONSTRUCTORS[kind], name: value})


@pytest.mark.unhooked
@pytest.mark.parametrize("weight", ["1", [1], True, torch.tensor(1), None])
def test_a_weight_of_another_type_is_an_error(weight):
    with pytest.raises(ValueError, match=r"^WeightedSum: expected weight of id as a number"):
        WeightedSum({"id": weight})


# Options that a module shows in another form, or that are no sizes or options of it.
NOT_IN_THE_REPR = {
    "encode_image",
    "encode_text",
    "loss",
    "no_sync",
    "std",  # of the initial centers only
    "num_sampled",  # shown by the sampler, where there is one
    "seed",
}


@pytest.mark.parametrize("kind", CONSTRUCTORS, ids=lambda kind: kind.__name__)
def test_the_repr_shows_sizes_and_options_on_one_line(kind):
    given = CONSTRUCTORS[kind]
    instance = kind(**given)
    text = repr(instance)
    if isinstance(instance, torch.nn.Module):
        text = instance.extra_repr()
        # A module that contains other modules prints them below.
        assert repr(instance).startswith(f"{kind.__name__}(")

    assert "\n" not in text
    assert len(text) < 250

    held = " ".join(repr(child) for child in getattr(instance, "children", list)())
    for name in inspect.signature(kind).parameters:
        if name not in NOT_IN_THE_REPR:
            assert f"{name}=" in text + held, f"{name} is missing in {instance!r}"
