"""Every engine equals its definition, the formula in plain autograd, in value and gradient."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from clipreid_kit.losses import (
    CachedContrastive,
    InfoNCELoss,
    PrototypeMemoryLoss,
    SupConLoss,
    arcface_loss,
    circle_loss,
    cmpm_loss,
    cosface_loss,
    hard_negative_contrastive_loss,
    image_to_text_ce_loss,
    info_nce_loss,
    multi_similarity_loss,
    proxy_anchor_loss,
    recall_surrogate_loss,
    sdm_loss,
    siglip_loss,
    smooth_ap_loss,
    supcon_loss,
    triplet_alignment_loss,
    triplet_loss,
    weighted_triplet_loss,
)
from clipreid_kit.losses._engine import anchorwise
from clipreid_kit.losses.arcface import arcface_definition
from clipreid_kit.losses.cached_contrastive import cached_contrastive_definition
from clipreid_kit.losses.circle import circle_definition
from clipreid_kit.losses.cmpm import cmpm_definition
from clipreid_kit.losses.cosface import cosface_definition
from clipreid_kit.losses.hard_negative import hard_negative_contrastive_definition
from clipreid_kit.losses.image_to_text import image_to_text_ce_definition
from clipreid_kit.losses.info_nce import info_nce_definition
from clipreid_kit.losses.multi_similarity import multi_similarity_definition
from clipreid_kit.losses.prototype_memory import prototype_memory_definition
from clipreid_kit.losses.proxy_anchor import proxy_anchor_definition
from clipreid_kit.losses.recall_surrogate import recall_surrogate_definition
from clipreid_kit.losses.sdm import sdm_definition
from clipreid_kit.losses.siglip import siglip_definition
from clipreid_kit.losses.smooth_ap import smooth_ap_definition
from clipreid_kit.losses.supcon import supcon_definition
from clipreid_kit.losses.triplet import triplet_definition
from clipreid_kit.losses.triplet_alignment import triplet_alignment_definition
from clipreid_kit.losses.weighted_triplet import weighted_triplet_definition

NUM_IDENTITIES, DIM = 4, 5

SEEDS = st.integers(0, 10_000)
NUM_ROWS = st.integers(2, 9)
LABELS = st.lists(st.integers(0, NUM_IDENTITIES - 1), min_size=2, max_size=9)
BLOCK_SIZES = st.sampled_from([None, 1, 3])


def random_rows(num_rows, seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(num_rows, DIM, generator=generator, dtype=torch.float64)
    return rows.requires_grad_()


def assert_equal_with_gradients(engine, definition, *leaves):
    """Compare both as functions of the leaves; scaled, so that the incoming gradient counts."""
    got = 3 * engine(*leaves)
    want = 3 * definition(*leaves)
    torch.testing.assert_close(got, want, rtol=1e-7, atol=1e-9)

    # A leaf that a definition does not reach (no pairs at all) has the gradient zero.
    got_gradients = torch.autograd.grad(got, leaves)
    want_gradients = torch.autograd.grad(want, leaves, materialize_grads=True)
    torch.testing.assert_close(got_gradients, want_gradients, rtol=1e-6, atol=1e-9)


# Losses of anchors against themselves, or against a contrast set.

CONTRAST_LOSSES = {
    "supcon": (supcon_loss, supcon_definition, {"temperature": 0.2}),
    "supcon-sum": (supcon_loss, supcon_definition, {"temperature": 0.2, "positives": "sum"}),
    "circle": (circle_loss, circle_definition, {"margin": 0.25, "scale": 8.0}),
    "multi_similarity": (
        multi_similarity_loss,
        multi_similarity_definition,
        {"negative_scale": 10.0, "epsilon": 0.1},
    ),
    "multi_similarity-all": (
        multi_similarity_loss,
        multi_similarity_definition,
        {"negative_scale": 10.0, "epsilon": None},
    ),
    "smooth_ap": (smooth_ap_loss, smooth_ap_definition, {"temperature": 0.2}),
    "recall_surrogate": (
        recall_surrogate_loss,
        recall_surrogate_definition,
        {"ks": [1, 3], "temperature": 0.2, "rank_temperature": 0.7},
    ),
    "weighted_triplet": (weighted_triplet_loss, weighted_triplet_definition, {}),
    "weighted_triplet-cosine": (
        weighted_triplet_loss,
        weighted_triplet_definition,
        {"distance": "cosine"},
    ),
}


@pytest.mark.parametrize("name", CONTRAST_LOSSES)
@given(labels=LABELS, seed=SEEDS)
def test_one_modality(name, labels, seed):
    engine, definition, options = CONTRAST_LOSSES[name]
    labels = torch.tensor(labels)

    assert_equal_with_gradients(
        lambda rows: engine(rows, labels, **options),
        lambda rows: definition(rows, labels, **options),
        random_rows(len(labels), seed),
    )


@pytest.mark.parametrize("name", CONTRAST_LOSSES)
@given(labels=LABELS, contrast_labels=LABELS, seed=SEEDS)
def test_against_a_contrast_set(name, labels, contrast_labels, seed):
    engine, definition, options = CONTRAST_LOSSES[name]
    labels = torch.tensor(labels)
    contrast_labels = torch.tensor(contrast_labels)

    assert_equal_with_gradients(
        lambda rows, contrast: engine(rows, labels, contrast, contrast_labels, **options),
        lambda rows, contrast: definition(rows, labels, contrast, contrast_labels, **options),
        random_rows(len(labels), seed),
        random_rows(len(contrast_labels), seed + 1),
    )


@given(
    labels=LABELS,
    contrast_labels=st.none() | LABELS,
    margin=st.sampled_from([0.0, 0.3, 2.0, None]),
    mining=st.sampled_from(["hardest", "semi_hard", "all"]),
    distance=st.sampled_from(["euclidean", "cosine"]),
    average=st.sampled_from([None, "mined", "violated"]),
    seed=SEEDS,
)
def test_triplet(labels, contrast_labels, margin, mining, distance, average, seed):
    options = {"margin": margin, "mining": mining, "distance": distance, "average": average}
    labels = torch.tensor(labels)
    sides = [random_rows(len(labels), seed)]
    if contrast_labels is not None:
        contrast_labels = torch.tensor(contrast_labels)
        sides.append(random_rows(len(contrast_labels), seed + 1))

    def call(loss, rows, contrast=None):
        return loss(rows, labels, contrast, contrast_labels, **options)

    assert_equal_with_gradients(
        lambda *rows: call(triplet_loss, *rows),
        lambda *rows: call(triplet_definition, *rows),
        *sides,
    )


# Losses of pairs.


@given(
    num_rows=NUM_ROWS,
    options=st.sampled_from(
        [
            {},
            {"label_smoothing": 0.1},
            {"focal_gamma": 2.0, "focal_alpha": 0.25},
            {"focal_gamma": 0.5},
            {"focal_alpha": 3.0},
        ]
    ),
    block_size=BLOCK_SIZES,
    seed=SEEDS,
)
def test_info_nce(num_rows, options, block_size, seed):
    temperature = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)

    assert_equal_with_gradients(
        lambda images, texts, t: info_nce_loss(
            images, texts, temperature=t, block_size=block_size, **options
        ),
        lambda images, texts, t: info_nce_definition(images, texts, temperature=t, **options),
        random_rows(num_rows, seed),
        random_rows(num_rows, seed + 1),
        temperature,
    )


@given(
    labels=st.none() | LABELS, text_labels=st.none() | LABELS, block_size=BLOCK_SIZES, seed=SEEDS
)
def test_siglip(labels, text_labels, block_size, seed):
    if labels is None:
        num_images = num_texts = 4
        sides = (None, None)
    else:
        num_images = len(labels)
        num_texts = num_images if text_labels is None else len(text_labels)
        sides = (
            torch.tensor(labels),
            None if text_labels is None else torch.tensor(text_labels),
        )

    assert_equal_with_gradients(
        lambda images, texts, t, b: siglip_loss(
            images, texts, *sides, temperature=t, bias=b, block_size=block_size
        ),
        lambda images, texts, t, b: siglip_definition(images, texts, *sides, temperature=t, bias=b),
        random_rows(num_images, seed),
        random_rows(num_texts, seed + 1),
        torch.tensor(0.2, dtype=torch.float64, requires_grad=True),
        torch.tensor(-2.0, dtype=torch.float64, requires_grad=True),
    )


BOTH_DIRECTIONS = {
    "sdm": (sdm_loss, sdm_definition, {"temperature": 0.2, "epsilon": 1e-6}),
    "cmpm": (cmpm_loss, cmpm_definition, {"epsilon": 1e-6}),
    "triplet_alignment": (
        triplet_alignment_loss,
        triplet_alignment_definition,
        {"margin": 0.3, "temperature": 0.2},
    ),
}


@pytest.mark.parametrize("name", BOTH_DIRECTIONS)
@given(
    labels=LABELS, text_labels=LABELS, block_elements=st.sampled_from([1, 12, 2**20]), seed=SEEDS
)
def test_both_directions(name, labels, text_labels, block_elements, seed):
    engine, definition, options = BOTH_DIRECTIONS[name]
    sides = (torch.tensor(labels), torch.tensor(text_labels))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(anchorwise, "BLOCK_ELEMENTS", block_elements)
        assert_equal_with_gradients(
            lambda images, texts: engine(images, texts, *sides, **options),
            lambda images, texts: definition(images, texts, *sides, **options),
            random_rows(len(labels), seed),
            random_rows(len(text_labels), seed + 1),
        )


@given(
    labels=LABELS,
    with_labels=st.booleans(),
    num_hard=st.integers(1, 4),
    margin=st.sampled_from([-1, -0.2, 0.5]),
    block_size=BLOCK_SIZES,
    seed=SEEDS,
)
def test_hard_negative(labels, with_labels, num_hard, margin, block_size, seed):
    labels_or_none = torch.tensor(labels) if with_labels else None
    options = {
        "temperature": 0.2,
        "margin": margin,
        "num_hard": num_hard,
        "hard_weight": 1.7,
    }

    assert_equal_with_gradients(
        lambda images, texts: hard_negative_contrastive_loss(
            images, texts, labels_or_none, block_size=block_size, **options
        ),
        lambda images, texts: hard_negative_contrastive_definition(
            images, texts, labels_or_none, **options
        ),
        random_rows(len(labels), seed),
        random_rows(len(labels), seed + 1),
    )


# Losses over all classes.


@given(
    labels=LABELS,
    margin=st.floats(0, 3),
    fallback=st.sampled_from(["linear", "easy"]),
    num_centers=st.sampled_from([1, 3]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    seed=SEEDS,
)
def test_arcface(labels, margin, fallback, num_centers, label_smoothing, seed):
    labels = torch.tensor(labels)
    options = {
        "scale": 8.0,
        "margin": margin,
        "fallback": fallback,
        "num_centers": num_centers,
        "label_smoothing": label_smoothing,
    }

    assert_equal_with_gradients(
        lambda rows, weight: arcface_loss(rows, labels, weight, **options),
        lambda rows, weight: arcface_definition(rows, labels, weight, **options),
        random_rows(len(labels), seed),
        random_rows(NUM_IDENTITIES * num_centers, seed + 1),
    )


@given(
    labels=LABELS,
    margin=st.sampled_from([0.0, 0.1, 0.5, 1.0]),  # 0.1 has no float32: its rounding would show
    num_centers=st.sampled_from([1, 3]),
    label_smoothing=st.sampled_from([0.0, 0.1]),
    seed=SEEDS,
)
def test_cosface(labels, margin, num_centers, label_smoothing, seed):
    labels = torch.tensor(labels)
    options = {
        "scale": 8.0,
        "margin": margin,
        "num_centers": num_centers,
        "label_smoothing": label_smoothing,
    }

    assert_equal_with_gradients(
        lambda rows, weight: cosface_loss(rows, labels, weight, **options),
        lambda rows, weight: cosface_definition(rows, labels, weight, **options),
        random_rows(len(labels), seed),
        random_rows(NUM_IDENTITIES * num_centers, seed + 1),
    )


@given(labels=LABELS, scale=st.sampled_from([1.0, 32.0]), margin=st.floats(0, 1), seed=SEEDS)
def test_proxy_anchor(labels, scale, margin, seed):
    labels = torch.tensor(labels)

    assert_equal_with_gradients(
        lambda rows, proxies: proxy_anchor_loss(rows, labels, proxies, scale=scale, margin=margin),
        lambda rows, proxies: proxy_anchor_definition(
            rows, labels, proxies, scale=scale, margin=margin
        ),
        random_rows(len(labels), seed),
        random_rows(NUM_IDENTITIES, seed + 1),
    )


@given(
    labels=LABELS,
    label_smoothing=st.sampled_from([0.0, 0.1]),
    normalize=st.booleans(),
    trained_texts=st.booleans(),
    seed=SEEDS,
)
def test_image_to_text(labels, label_smoothing, normalize, trained_texts, seed):
    labels = torch.tensor(labels)
    options = {"temperature": 0.5, "label_smoothing": label_smoothing, "normalize": normalize}
    images = random_rows(len(labels), seed)
    texts = random_rows(NUM_IDENTITIES, seed + 1)
    leaves = [images, texts] if trained_texts else [images]
    fixed_texts = texts.detach()

    assert_equal_with_gradients(
        lambda rows, texts=fixed_texts: image_to_text_ce_loss(rows, labels, texts, **options),
        lambda rows, texts=fixed_texts: image_to_text_ce_definition(rows, labels, texts, **options),
        *leaves,
    )


@given(
    labels=LABELS,
    filled=st.lists(st.booleans(), min_size=NUM_IDENTITIES, max_size=NUM_IDENTITIES),
    seed=SEEDS,
)
def test_prototype_memory(labels, filled, seed):
    labels = torch.tensor(labels)
    loss = PrototypeMemoryLoss(DIM, NUM_IDENTITIES, temperature=0.2).double().eval()
    known_identities = torch.tensor(filled).nonzero()[:, 0]
    if len(known_identities) > 0:
        rows = random_rows(len(known_identities), seed + 1).detach()
        loss.initialize(rows, known_identities)

    assert_equal_with_gradients(
        lambda rows: loss(rows, labels),
        lambda rows: prototype_memory_definition(
            rows, labels, loss.prototypes, loss.filled, temperature=0.2
        ),
        random_rows(len(labels), seed),
    )


# The step of a whole batch.


@pytest.mark.parametrize("num_towers", [1, 2])
def test_cached_contrastive(num_towers):
    image_tower = torch.nn.Linear(DIM, 3).double()
    text_tower = torch.nn.Linear(DIM, 3).double() if num_towers == 2 else None
    images = random_rows(7, 0).detach()
    texts = random_rows(7, 1).detach() if num_towers == 2 else None
    loss = InfoNCELoss(0.3) if num_towers == 2 else SupConLoss(0.3)
    loss_args = () if num_towers == 2 else (torch.arange(7) // 2,)

    parameters = list(image_tower.parameters())
    if text_tower is not None:
        parameters += text_tower.parameters()

    step = CachedContrastive(image_tower, text_tower, loss, chunk_size=3)
    got = step(images, texts, *loss_args)
    want = cached_contrastive_definition(image_tower, text_tower, loss, images, texts, *loss_args)
    got.backward()
    got_gradients = [parameter.grad.clone() for parameter in parameters]
    want_gradients = torch.autograd.grad(want, parameters)

    torch.testing.assert_close(got, want)
    torch.testing.assert_close(got_gradients, list(want_gradients))
