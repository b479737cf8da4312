"""Every option of a loss that gathers is compared between the ranks."""

import importlib
import inspect

import pytest
import torch

from clipreid_kit import losses
from clipreid_kit.losses import (
    ArcFaceLoss,
    CameraPrototypeLoss,
    CenterLoss,
    CircleLoss,
    CMPCLoss,
    CMPMLoss,
    CosFaceLoss,
    CrossBatchMemory,
    FeatureDistillationLoss,
    HardNegativeContrastiveLoss,
    IdentityLoss,
    ImageToTextCELoss,
    InfoNCELoss,
    LogitDistillationLoss,
    MultiSimilarityLoss,
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

ROWS = torch.eye(4)
LABELS = torch.tensor([0, 0, 1, 1])

# How each is called, its required arguments, and another value of each option.
CASES = {
    ArcFaceLoss: (
        (ROWS, LABELS),
        {"dim": 4, "num_identities": 5},
        {
            "num_identities": 6,
            "scale": 8.0,
            "margin": 0.1,
            "fallback": "easy",
            "num_centers": 2,
            "label_smoothing": 0.1,
            "num_sampled": 4,
        },
    ),
    CosFaceLoss: (
        (ROWS, LABELS),
        {"dim": 4, "num_identities": 5},
        {
            "num_identities": 6,
            "scale": 8.0,
            "margin": 0.1,
            "num_centers": 2,
            "label_smoothing": 0.1,
            "num_sampled": 4,
        },
    ),
    CameraPrototypeLoss: (
        (ROWS, LABELS, LABELS % 2),
        {"dim": 4, "num_identities": 5, "num_cameras": 2},
        {
            "num_identities": 6,
            "num_cameras": 3,
            "temperature": 0.2,
            "momentum": 0.5,
            "num_negatives": 3,
            "inter_weight": 1.0,
            "update": "mean",
        },
    ),
    CenterLoss: (
        (ROWS, LABELS),
        {"dim": 4, "num_identities": 5},
        {"num_identities": 6, "sparse_grad": True},
    ),
    CMPCLoss: (
        (ROWS, ROWS, LABELS),
        {"dim": 4, "num_identities": 5},
        {"num_identities": 6, "reduction": "none"},
    ),
    CMPMLoss: ((ROWS, ROWS), {}, {"epsilon": 1e-6, "reduction": "none"}),
    CircleLoss: ((ROWS, LABELS), {}, {"margin": 0.1, "scale": 8.0}),
    CrossBatchMemory: (
        (ROWS, LABELS),
        {"loss": SupConLoss(), "dim": 4, "size": 8},
        {"loss": SupConLoss(0.2), "size": 16, "weight": 0.5, "warmup_steps": 3},
    ),
    FeatureDistillationLoss: ((ROWS, ROWS), {}, {"distance": "squared"}),
    LogitDistillationLoss: ((ROWS, ROWS), {}, {"temperature": 2.0}),
    RelationalDistillationLoss: (
        (ROWS, ROWS),
        {},
        {"temperature": 0.2, "teacher_temperature": 0.2},
    ),
    IdentityLoss: (
        (ROWS, LABELS),
        {},
        {
            "label_smoothing": 0.1,
            "adaptive_smoothing": 0.2,
            "focal_gamma": 2.0,
            "reduction": "none",
        },
    ),
    RecallSurrogateLoss: (
        (ROWS, LABELS),
        {},
        {"ks": [1], "temperature": 0.2, "rank_temperature": 0.5},
    ),
    SmoothAPLoss: ((ROWS, LABELS), {}, {"temperature": 0.2}),
    HardNegativeContrastiveLoss: (
        (ROWS, ROWS),
        {},
        {
            "temperature": 0.2,
            "margin": 0.1,
            "num_hard": 2,
            "hard_weight": 0.1,
            "reduction": "none",
        },
    ),
    ImageToTextCELoss: (
        (ROWS, LABELS, ROWS),
        {},
        {"temperature": 0.2, "label_smoothing": 0.3, "normalize": False},
    ),
    InfoNCELoss: (
        (ROWS, ROWS),
        {},
        {
            "temperature": 0.2,
            "learnable": True,
            "max_scale": 50.0,
            "label_smoothing": 0.1,
            "focal_gamma": 1.0,
            "focal_alpha": 0.5,
            "reduction": "none",
        },
    ),
    MultiSimilarityLoss: (
        (ROWS, LABELS),
        {},
        {"positive_scale": 1.0, "negative_scale": 9.0, "threshold": 0.3, "epsilon": 0.3},
    ),
    PrototypeMemoryLoss: (
        (ROWS, LABELS),
        {"dim": 4, "num_identities": 5},
        {"num_identities": 6, "temperature": 0.2, "momentum": 0.5, "update": "mean"},
    ),
    ProxyAnchorLoss: (
        (ROWS, LABELS),
        {"dim": 4, "num_identities": 5},
        {"num_identities": 6, "scale": 8.0, "margin": 0.2},
    ),
    SelfSupervisionLoss: (
        (ROWS, LABELS),
        {"dim": 4, "out_dim": 3},
        {"temperature": 0.2, "out_dim": 2, "hidden_dim": 5},
    ),
    SDMLoss: (
        (ROWS, ROWS),
        {},
        {"temperature": 0.2, "epsilon": 1e-6, "reduction": "none"},
    ),
    SigLIPLoss: (
        (ROWS, ROWS),
        {"learnable": False},
        {"temperature": 0.2, "bias": -5.0, "learnable": True, "reduction": "none"},
    ),
    SupConLoss: (
        (ROWS, LABELS),
        {},
        {"temperature": 0.2, "positives": "sum", "reduction": "none"},
    ),
    TripletAlignmentLoss: (
        (ROWS, ROWS),
        {},
        {"margin": 0.3, "temperature": 0.2, "reduction": "none"},
    ),
    TripletLoss: (
        (ROWS, LABELS),
        {},
        {"margin": 0.1, "mining": "all", "distance": "cosine", "average": "violated"},
    ),
    WeightedSum: (
        ({"a": torch.ones(())},),
        {"weights": {"a": 1.0}, "balance": "magnitude"},
        {"weights": {"a": 2.0}, "momentum": 0.5, "limit": 5.0},
    ),
    WeightedTripletLoss: ((ROWS, LABELS), {}, {"distance": "cosine"}),
}

# Options that change nothing of the loss of all ranks, or that are parameters, which DDP equalises.
FREE = {
    "block_size",
    "distributed",
    "dim",
    "std",
    "balance",
    "persistent",
    "seed",  # tested below
}


def compared(monkeypatch, kind, arguments, options):
    """What a loss sends of its options for the comparison with the other ranks."""
    seen = []

    def gather_batch(owner, *tensors, options=(), error=None):
        seen.append(repr(options))
        return tensors

    module = importlib.import_module(kind.__module__)
    monkeypatch.setattr(module, "gather_batch", gather_batch, raising=False)
    margin_head = importlib.import_module("clipreid_kit.losses._margin_head")
    monkeypatch.setattr(margin_head, "gather_batch", gather_batch)

    torch.manual_seed(0)
    kind(**options, distributed=True)(*arguments)
    return seen[0]


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_every_option_is_compared(monkeypatch, kind):
    arguments, required, others = CASES[kind]
    base = compared(monkeypatch, kind, arguments, required)

    for name, value in others.items():
        changed = compared(monkeypatch, kind, arguments, {**required, name: value})
        assert changed != base, name


@pytest.mark.parametrize("kind", CASES, ids=lambda kind: kind.__name__)
def test_no_option_is_left_out_here(kind):
    options = set(inspect.signature(kind).parameters) - {"sparse_grad"}
    assert options - FREE <= set(CASES[kind][2])


@pytest.mark.parametrize("kind", [ArcFaceLoss, CosFaceLoss], ids=lambda kind: kind.__name__)
def test_the_seed_of_sampled_classes_is_compared(monkeypatch, kind):
    arguments, required, _ = CASES[kind]
    seeds = [
        compared(monkeypatch, kind, arguments, {**required, "num_sampled": 4, "seed": seed})
        for seed in (0, 1)
    ]
    assert seeds[0] != seeds[1]


def test_every_loss_that_gathers_is_here():
    gathering = set()
    for name in losses.__all__:
        kind = getattr(losses, name)
        if inspect.isclass(kind) and "distributed" in inspect.signature(kind).parameters:
            gathering.add(kind)
    assert gathering == set(CASES)
