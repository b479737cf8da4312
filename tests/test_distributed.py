"""Two gloo processes, one loss: the averaged gradient is that of one with the whole batch."""

import io

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from two_ranks import on_two_ranks

from clipreid_kit.clip import IdentityBranch
from clipreid_kit.distributed import gather, local_losses, world_size
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
    arcface_loss,
)
from clipreid_kit.modules import BNNeck

LABELS = [0, 0, 1, 1, 2, 0, 2]
SPLIT = 4  # rank 0 has four rows, rank 1 has three: a ragged last batch
DIM = 4


# How a loss is called with images, texts and labels.


def by_labels(loss, images, texts, labels):
    return loss(images, labels)


def against_texts(loss, images, texts, labels):
    return loss(images, labels, texts, labels)


def by_pairs(loss, images, texts, labels):
    return loss(images, texts)


def by_labelled_pairs(loss, images, texts, labels):
    return loss(images, texts, labels)


def by_weighted_values(loss, images, texts, labels):
    """Values of all pairs, some of which are neither positive nor negative, and their weights."""
    of_all_ranks = gather(labels)
    ignore = labels[:, None] - of_all_ranks[None, :] == 1
    values = loss(images, texts, labels, ignore=ignore)
    return (values * (1 + of_all_ranks)).mean()


def by_weighted_rows(loss, images, texts, labels):
    """The same of a loss without labels; of SigLIP the losses of every image with every text."""
    of_all_ranks = gather(labels)
    ignore = labels[:, None] == of_all_ranks[None, :]
    values = loss(images, texts, ignore=ignore)
    return (values.flatten() * (1 + torch.arange(values.numel()) % 3)).mean()


def by_weighted_anchors(loss, images, texts, labels):
    of_all_ranks = gather(labels)
    ignore = labels[:, None] - of_all_ranks[None, :] == 1
    values = loss(images, labels, texts, labels, ignore=ignore)
    return (values * (1 + of_all_ranks)).mean()


def by_two_labels(loss, images, texts, labels):
    return loss(images, texts, labels, labels)


def against_fixed_texts(loss, images, texts, labels):
    fixed_texts = torch.arange(3 * DIM).reshape(3, DIM).cos()
    return loss(images, labels, fixed_texts)


def in_two_batches(loss, images, texts, labels):
    """Texts first, so that the images find them in the memory."""
    return loss(texts, labels) + loss(images, labels)


def with_prototypes(loss, images, texts, labels):
    loss.initialize(texts, labels)
    return loss(images, labels)


def with_camera_prototypes(loss, images, texts, labels):
    cameras = (texts[:, 0] > 0).long()  # of the row, whichever rank has it
    loss.initialize(texts, labels, cameras)
    return loss(images, labels, 1 - cameras)


def sum_of_two(loss, images, texts, labels):
    supcon = SupConLoss(distributed=loss.distributed)
    triplet = TripletLoss(distributed=loss.distributed)
    terms = {
        "text": supcon(images, labels, texts, labels),
        "triplet": triplet(images, labels),
    }
    total, _ = loss(terms)
    return total


WEIGHTS = {"text": 1.0, "triplet": 2.0}

# name: (class, options, how it is called); parameters, buffers and gradients are all compared
CASES = {
    "supcon": (SupConLoss, {}, by_labels),
    "supcon-text": (SupConLoss, {}, against_texts),
    "supcon-blocks": (SupConLoss, {"block_size": 3}, by_labels),
    "info_nce": (InfoNCELoss, {}, by_pairs),
    "info_nce-learned": (InfoNCELoss, {"learnable": True}, by_pairs),
    "info_nce-smoothed": (
        InfoNCELoss,
        {"learnable": True, "label_smoothing": 0.1, "block_size": 3},
        by_pairs,
    ),
    "info_nce-focal": (InfoNCELoss, {"focal_gamma": 2.0, "focal_alpha": 0.5}, by_pairs),
    "siglip": (SigLIPLoss, {}, by_pairs),
    "siglip-labels": (SigLIPLoss, {}, by_two_labels),
    "hard_negative": (HardNegativeContrastiveLoss, {"margin": -0.5}, by_labelled_pairs),
    "self_supervision": (SelfSupervisionLoss, {"dim": DIM}, by_labels),
    "sdm": (SDMLoss, {}, by_labelled_pairs),
    "sdm-values": (SDMLoss, {"temperature": 0.2, "reduction": "none"}, by_weighted_values),
    "triplet_alignment": (TripletAlignmentLoss, {}, by_two_labels),
    "triplet_alignment-values": (
        TripletAlignmentLoss,
        {"reduction": "none"},
        by_weighted_values,
    ),
    "cmpm": (CMPMLoss, {}, by_labelled_pairs),
    "cmpm-values": (CMPMLoss, {"reduction": "none"}, by_weighted_values),
    "cmpc": (CMPCLoss, {"dim": DIM, "num_identities": 3}, by_labelled_pairs),
    "info_nce-values": (InfoNCELoss, {"reduction": "none"}, by_weighted_rows),
    "siglip-values": (SigLIPLoss, {"reduction": "none"}, by_weighted_rows),
    "hard_negative-values": (
        HardNegativeContrastiveLoss,
        {"margin": -0.5, "reduction": "none"},
        by_weighted_values,
    ),
    "supcon-values": (SupConLoss, {"reduction": "none"}, by_weighted_anchors),
    "smooth_ap": (SmoothAPLoss, {"temperature": 0.1}, by_labels),
    "recall_surrogate": (RecallSurrogateLoss, {"temperature": 0.1}, by_labels),
    "feature_distillation": (FeatureDistillationLoss, {}, by_pairs),
    "relational_distillation": (RelationalDistillationLoss, {}, by_pairs),
    "logit_distillation": (LogitDistillationLoss, {}, by_pairs),
    "triplet": (TripletLoss, {}, by_labels),
    "triplet-all": (TripletLoss, {"mining": "all"}, by_labels),
    "triplet-text": (TripletLoss, {}, against_texts),
    "weighted_triplet": (WeightedTripletLoss, {}, by_labels),
    "weighted_triplet-text": (WeightedTripletLoss, {}, against_texts),
    "circle": (CircleLoss, {}, by_labels),
    "multi_similarity": (MultiSimilarityLoss, {}, by_labels),
    "center": (CenterLoss, {"dim": DIM, "num_identities": 3}, by_labels),
    "image_to_text": (ImageToTextCELoss, {}, against_fixed_texts),
    "prototype_memory": (PrototypeMemoryLoss, {"dim": DIM, "num_identities": 4}, in_two_batches),
    "prototype_memory-each": (
        PrototypeMemoryLoss,
        {"dim": DIM, "num_identities": 4, "update": "each"},
        with_prototypes,
    ),
    "camera_prototypes": (
        CameraPrototypeLoss,
        {"dim": DIM, "num_identities": 4, "num_cameras": 2, "num_negatives": 3},
        with_camera_prototypes,
    ),
    "cross_batch_memory": (
        CrossBatchMemory,
        {"loss": SupConLoss(), "dim": DIM, "size": 9},
        in_two_batches,
    ),
    "arcface": (
        ArcFaceLoss,
        {"dim": DIM, "num_identities": 3, "num_centers": 2, "label_smoothing": 0.1},
        by_labels,
    ),
    "arcface-sampled": (
        ArcFaceLoss,
        {"dim": DIM, "num_identities": 20, "num_sampled": 8},
        by_labels,
    ),
    "cosface": (CosFaceLoss, {"dim": DIM, "num_identities": 3}, by_labels),
    "cosface-sampled": (
        CosFaceLoss,
        {"dim": DIM, "num_identities": 20, "num_sampled": 8},
        by_labels,
    ),
    "identity": (IdentityLoss, {"adaptive_smoothing": 0.2, "focal_gamma": 2.0}, by_labels),
    "proxy_anchor": (ProxyAnchorLoss, {"dim": DIM, "num_identities": 3}, by_labels),
    "weighted_sum-magnitude": (
        WeightedSum,
        {"weights": WEIGHTS, "balance": "magnitude"},
        sum_of_two,
    ),
    "weighted_sum-uncertainty": (
        WeightedSum,
        {"weights": WEIGHTS, "balance": "uncertainty"},
        sum_of_two,
    ),
}


def setting(name, distributed):
    torch.manual_seed(3)
    model = torch.nn.Linear(6, DIM)
    rows = torch.randn(len(LABELS), 6)

    kind, options, _ = CASES[name]
    loss = kind(**options, distributed=distributed)
    return model, loss, rows, torch.tensor(LABELS)


def step(name, model, loss, rows, labels):
    """One forward pass for both towers, as DDP counts them; then the loss and its backward pass."""
    images, texts = model(torch.cat([rows, rows.flip(1)])).chunk(2)
    _, _, call = CASES[name]
    result = call(loss, images, texts, labels)
    result.backward()
    return result


def state(loss):
    return {key: tensor.detach().tolist() for key, tensor in loss.state_dict().items()}


def step_of_rank(name, mine):
    """Value, gradient of the model, gradients of the loss and its state, after one step."""
    model, loss, rows, labels = setting(name, distributed=True)
    wrapped = DistributedDataParallel(model)
    value = step(name, wrapped, loss, rows[mine], labels[mine])

    # As DDP does if the loss is wrapped with the model.
    gradients = [parameter.grad.clone() for parameter in loss.parameters()]
    for gradient in gradients:
        dist.all_reduce(gradient)

    return (
        value.item(),
        model.weight.grad.tolist(),
        [(gradient / 2).tolist() for gradient in gradients],
        state(loss),
    )


def error_of_a_wrapped_model():
    model, _, _, _ = setting("supcon", distributed=True)
    try:
        local_losses(DistributedDataParallel(model)).__enter__()
    except ValueError as error:
        return str(error)

    return ""


def local_loss(mine):
    model, loss, rows, labels = setting("supcon", distributed=True)
    with local_losses(torch.nn.ModuleList([loss])):
        return loss(model(rows[mine]), labels[mine]).item()


# What the two ranks pass where they disagree, and what both have to say.


def gathered(first, second):
    return lambda rank: gather(first if rank == 0 else second)


def by_supcon(rank):
    rows, labels = torch.eye(4), torch.tensor([0, 0, 1, 1])
    contrast = (rows, labels) if rank else ()
    return SupConLoss(distributed=True)(rows, labels, *contrast)


def with_options(rank):
    rows, labels = torch.eye(4), torch.tensor([0, 0, 1, 1])
    return TripletLoss(0.3 + rank, distributed=True)(rows, labels)


def with_a_wrong_label(make):
    def call(rank):
        rows = torch.eye(4)
        labels = torch.tensor([0, 1, 2, 3 + 4 * rank])
        loss = make()
        return loss(rows, labels, *((rows,) if isinstance(loss, ImageToTextCELoss) else ()))

    return call


DISAGREEMENTS = {
    "dtype": (
        gathered(torch.ones(3, 2).half(), torch.ones(3, 2).bfloat16()),
        "gather: expected rows of one dtype and shape on all ranks, besides their number n, got "
        "float16 (n, 2) on rank 0, bfloat16 (n, 2) on rank 1.",
    ),
    "dtype of labels": (
        gathered(torch.ones(3).int(), torch.ones(3).long()),
        "got int32 (n) on rank 0, int64 (n) on rank 1.",
    ),
    "shape": (
        gathered(torch.ones(3, 2, 4), torch.ones(3, 4, 2)),
        "got float32 (n, 2, 4) on rank 0, float32 (n, 4, 2) on rank 1.",
    ),
    "dimensions": (
        gathered(torch.ones(0), torch.ones(3, 2)),
        "got float32 (n) on rank 0, float32 (n, 2) on rank 1.",
    ),
    "a scalar": (
        gathered(torch.ones(()), torch.ones(3)),
        "gather: expected a tensor with rows, got a scalar. Add a dimension: rows[None]. (on rank",
    ),
    "a list": (
        gathered(torch.ones(3), [1.0]),
        "gather: expected rows as a tensor, got list. Use torch.as_tensor. (on rank 1)",
    ),
    "sparse": (
        gathered(torch.eye(3), torch.eye(3).to_sparse()),
        "gather: expected rows as a dense tensor, got sparse_coo. Use to_dense",
    ),
    "contrast": (
        by_supcon,
        "SupConLoss: expected rows of one dtype and shape on all ranks, besides their number n, "
        "got None on rank 0, float32 (n, 4) on rank 1.",
    ),
    "options": (with_options, "TripletLoss: its options differ between the ranks (here: "),
    "label, image to text": (
        with_a_wrong_label(lambda: ImageToTextCELoss(distributed=True)),
        "image_to_text_ce_loss: expected labels in [0, 4), got labels from 0 to 7.",
    ),
    "label, prototypes": (
        with_a_wrong_label(lambda: PrototypeMemoryLoss(4, 4, distributed=True)),
        "PrototypeMemoryLoss: expected labels in [0, 4), got labels from 0 to 7.",
    ),
    "label, head": (
        with_a_wrong_label(lambda: ArcFaceLoss(4, 4, distributed=True)),
        "arcface_loss: expected labels in [0, 4), got labels from 0 to 7.",
    ),
}


PARTIAL_FC = {
    "arcface": (ArcFaceLoss, {"label_smoothing": 0.1}),
    "cosface": (CosFaceLoss, {"margin": 0.2, "scale": 10.0}),
}


def partial_fc_of_rank(rank, mine):
    """Value, gradients and whole state of a head of seven identities, shared out as 3 and 4."""
    found = {}
    for kind, (_, options) in PARTIAL_FC.items():
        model, _, rows, labels = setting("arcface", distributed=True)
        loss = PartialFCLoss(DIM, 7, kind=kind, **options)
        wrapped = DistributedDataParallel(model)
        value = loss(wrapped(rows[mine]), labels[mine])
        value.backward()
        found[kind] = {
            "value": value.item(),
            "by_model": model.weight.grad,
            "by_weight": gather(loss.weight.grad),
            "state": loss.full_state_dict(),
        }

    _, _, rows, labels = setting("arcface", distributed=True)
    sampled = PartialFCLoss(DIM, 40, num_sampled=20, label_smoothing=0.1)
    value = sampled(rows[mine, :DIM], labels[mine])
    value.backward()
    by_weight, weight = gather(sampled.weight.grad), gather(sampled.weight.detach())
    found["sampled"] = (value.item(), by_weight, weight)

    again = PartialFCLoss(DIM, 7, seed=1)
    again.load_state_dict(found["arcface"]["state"])
    found["loaded"] = gather(again.weight.detach())
    found["shard"] = PartialFCLoss(DIM, 7).state_dict()

    def of_one_rank(_):
        with local_losses(again):
            again(torch.ones(2, DIM), torch.tensor([0, 1]))

    sampled = PartialFCLoss(DIM, 7, num_sampled=4)
    calls = {
        "local": of_one_rank,
        "few": lambda _: sampled(torch.ones(2, DIM), torch.tensor([0, 1])),
        "label": lambda rank: again(torch.ones(1, DIM), torch.tensor([7 * rank])),
        "identities": lambda _: PartialFCLoss(DIM, 1),
        "shard": lambda rank: again.load_state_dict(
            {**found["shard"], "_extra_state": torch.tensor([7, 3 - 3 * rank, 7 - 4 * rank, 0])}
        ),
    }
    found["errors"] = {name: error_of(call, rank) for name, call in calls.items()}
    return found


# rows of rank 0 and of rank 1
NECK_SPLITS = {"ragged": (5, 3), "one row": (7, 1), "no row": (8, 0)}
NECK_WEIGHT = torch.tensor([[1.0, -2.0, 0.5]])


def neck_step(neck, rows, *, num_ranks):
    """Output, gradient of the rows and of the scale before DDP's average, running statistics."""
    leaf = rows.clone().requires_grad_()
    after = neck(leaf).after
    (num_ranks * (NECK_WEIGHT * after).pow(3).sum()).backward()

    norm = neck.norm
    found = [after, leaf.grad, norm.weight.grad, norm.running_mean, norm.running_var]
    return [tensor.tolist() for tensor in found]


def neck_rows():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(8, 3, generator=generator) * 3 + 10


def neck_of_rank(rank):
    found = {}
    for name, sizes in NECK_SPLITS.items():
        mine = neck_rows().split(sizes)[rank]
        found[name] = neck_step(BNNeck(3, distributed=True), mine, num_ranks=2)

    neck = BNNeck(3, distributed=True)
    found["errors"] = [
        error_of(lambda rank: neck(torch.ones(1 - rank, 3)), rank),
        error_of(lambda rank: neck(torch.ones(2, 3 + rank)), rank),
    ]
    if rank == 0:  # the other rank does not take part
        with local_losses(neck):
            found["local"] = neck(neck_rows()[:5]).after.tolist()
        found["evaluated"] = list(neck.eval()(torch.ones(1, 3)).after.shape)
    return found


def error_of(call, rank):
    try:
        call(rank)
    except ValueError as error:
        return str(error)

    return "no error"


def gradient_where_one_rank_has_none(rank):
    """Gradient of the sum of squares of all rows by those of rank 0; rank 1 trains nothing."""
    rows = torch.arange(6.0).reshape(3, 2)
    if rank == 0:
        rows.requires_grad_()

    gather(rows).square().sum().backward()
    return None if rows.grad is None else rows.grad.tolist()


def found_by(rank):
    mine = slice(None, SPLIT) if rank == 0 else slice(SPLIT, None)
    results = {name: step_of_rank(name, mine) for name in CASES}
    results["order"] = gather(torch.tensor(LABELS)[mine]).tolist()
    results["wrapped"] = error_of_a_wrapped_model()
    results["errors"] = {name: error_of(call, rank) for name, (call, _) in DISAGREEMENTS.items()}
    results["one gradient"] = gradient_where_one_rank_has_none(rank)
    results["neck"] = neck_of_rank(rank)

    # A queue hands tensors over in memory that both processes would have to keep open.
    with io.BytesIO() as file:
        torch.save(partial_fc_of_rank(rank, mine), file)
        results["partial_fc"] = file.getvalue()

    # The other rank does not take part.
    if rank == 0:
        results["local"] = local_loss(mine)
    return results


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    found = on_two_ranks(found_by, tmp_path_factory.mktemp("ranks"))
    for results in found.values():
        results["partial_fc"] = torch.load(io.BytesIO(results["partial_fc"]))
    return found


@pytest.mark.parametrize("kind", PARTIAL_FC)
def test_a_head_shared_out_between_two_ranks_is_that_of_one(results, kind):
    dense, options = PARTIAL_FC[kind]
    model, _, rows, labels = setting("arcface", distributed=False)
    loss = dense(DIM, 7, **options)
    loss.head.load_state_dict({"weight": results[0]["partial_fc"][kind]["state"]["weight"]})
    expected = loss(model(rows), labels)
    expected.backward()

    for rank in range(2):
        found = results[rank]["partial_fc"][kind]
        assert found["value"] == pytest.approx(expected.item(), rel=1e-5)
        torch.testing.assert_close(found["by_model"], model.weight.grad, atol=1e-5, rtol=1e-4)
        by_weight = loss.head.weight.grad
        torch.testing.assert_close(found["by_weight"], by_weight, atol=1e-5, rtol=1e-4)


def test_a_shared_head_draws_its_identities_on_each_rank(results):
    _, _, rows, labels = setting("arcface", distributed=False)
    for rank in range(2):
        value, by_weight, weight = results[rank]["partial_fc"]["sampled"]
        drawn = (by_weight != 0).any(dim=1).nonzero()[:, 0]
        assert [int((drawn < 20).sum()), len(drawn)] == [10, 20]

        leaf = weight.clone().requires_grad_()
        positions = torch.searchsorted(drawn, labels)
        expected = arcface_loss(rows[:, :DIM], positions, leaf[drawn], label_smoothing=0.1)
        expected.backward()
        assert value == pytest.approx(expected.item(), rel=1e-5)
        torch.testing.assert_close(by_weight, leaf.grad, atol=1e-5, rtol=1e-4)


def test_the_state_of_a_shared_head_loads_on_any_number_of_ranks(results):
    state = results[0]["partial_fc"]["arcface"]["state"]
    for rank in range(2):
        assert torch.equal(results[rank]["partial_fc"]["loaded"], state["weight"])

    alone = PartialFCLoss(DIM, 7, seed=1)
    alone.load_state_dict(state)
    assert torch.equal(alone.weight, state["weight"])
    assert torch.equal(PartialFCLoss(DIM, 7).weight, state["weight"])  # the same start

    shard = results[1]["partial_fc"]["shard"]
    with pytest.raises(ValueError, match="holds the identities 3 to 6 of 7, and this rank has 0"):
        alone.load_state_dict(shard)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("local", "cannot compute the loss alone. Leave the loss out inside local_losses."),
        ("few", "each rank draws 2 identities, fewer than the 4 rows of the batch"),
        ("label", "PartialFCLoss: expected labels in [0, 7), got labels from 0 to 7"),
        ("identities", "expected at least 2 identities, one for each rank, got 1"),
        ("shard", "Save full_state_dict(), which any number of ranks can load."),
    ],
)
def test_a_shared_head_stops_on_all_ranks(results, name, expected):
    for rank in range(2):
        assert expected in results[rank]["partial_fc"]["errors"][name]


@pytest.mark.parametrize("name", NECK_SPLITS)
def test_a_neck_of_two_ranks_is_that_of_one(results, name):
    after, by_rows, by_scale, mean, variance = neck_step(BNNeck(3), neck_rows(), num_ranks=1)
    of_ranks = [results[rank]["neck"][name] for rank in range(2)]

    def close(found, expected, atol=1e-4):
        found, expected = torch.tensor(found), torch.tensor(expected)
        torch.testing.assert_close(found, expected, atol=atol, rtol=1e-4)

    close(of_ranks[0][0] + of_ranks[1][0], after)
    # Of the sum over the ranks: DDP divides it, and each rank has the loss of all twice.
    gradients = torch.tensor(of_ranks[0][1] + of_ranks[1][1])
    close((gradients / 2).tolist(), by_rows, atol=1e-3)
    scales = torch.tensor([of_rank[2] for of_rank in of_ranks]).mean(dim=0)
    close(scales.tolist(), by_scale, atol=1e-3)
    for of_rank in of_ranks:
        close(of_rank[3], mean)
        close(of_rank[4], variance)


def test_a_neck_over_ranks_stops_on_all_or_works_alone(results):
    for rank in range(2):
        too_few, wrong_width = results[rank]["neck"]["errors"]
        assert "BNNeck: training mode needs at least two rows over all ranks" in too_few
        assert "BNNeck: expected embeddings of width 3, got 4. (on rank 1)" in wrong_width

    expected = BNNeck(3)(neck_rows()[:5]).after
    torch.testing.assert_close(torch.tensor(results[0]["neck"]["local"]), expected)
    assert results[0]["neck"]["evaluated"] == [1, 3]


def test_rows_come_in_rank_order(results):
    assert results[0]["order"] == results[1]["order"] == LABELS


@pytest.mark.parametrize("name", DISAGREEMENTS)
def test_ranks_that_disagree_all_stop(results, name):
    _, expected = DISAGREEMENTS[name]
    for rank in range(2):
        assert expected in results[rank]["errors"][name]


def test_a_rank_without_gradient_takes_part_in_the_backward_pass(results):
    # Each of the two ranks adds the gradient of its own loss, as DDP expects.
    assert results[0]["one gradient"] == [[0.0, 4.0], [8.0, 12.0], [16.0, 20.0]]
    assert results[1]["one gradient"] is None


def test_one_rank_computes_a_local_loss(results):
    model, loss, rows, labels = setting("supcon", distributed=False)

    assert results[1]["wrapped"].startswith(
        "local_losses: the module is wrapped by DistributedDataParallel."
    )

    want = loss(model(rows[:SPLIT]), labels[:SPLIT])
    assert results[0]["local"] == pytest.approx(want.item(), rel=1e-6)


def test_parts_whose_option_is_fixed_are_local_in_the_block():
    branch = IdentityBranch(8, 3, distributed=True)
    memory = CameraPrototypeLoss(8, 3, 2, distributed=True)
    parts = torch.nn.ModuleList([branch, memory])

    def gathering():
        return [branch.distributed, branch.identity_loss.distributed, memory.distributed]

    with local_losses(parts):
        assert gathering() == [False] * 3

    assert gathering() == [True] * 3
    with pytest.raises(AttributeError, match="IdentityBranch: distributed is fixed"):
        branch.distributed = False


@pytest.mark.unhooked
def test_losses_gather_again_after_an_error():
    loss = SupConLoss(distributed=True)
    with pytest.raises(ValueError, match="labels"), local_losses(loss):
        loss(torch.zeros(2, 3), torch.zeros(3))
    assert loss.distributed


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_have_the_gradient_of_one(results, name):
    model, loss, rows, labels = setting(name, distributed=False)
    whole = step(name, model, loss, rows, labels)

    for rank in range(2):
        value, gradient, own, held = results[rank][name]
        assert value == pytest.approx(whole.item(), rel=1e-5)
        torch.testing.assert_close(torch.tensor(gradient), model.weight.grad, atol=1e-6, rtol=1e-4)

        for got, parameter in zip(own, loss.parameters(), strict=True):
            torch.testing.assert_close(torch.tensor(got), parameter.grad, atol=1e-6, rtol=1e-4)

        want = state(loss)
        assert held.keys() == want.keys()
        for key in want:
            torch.testing.assert_close(
                torch.tensor(held[key]), torch.tensor(want[key]), atol=1e-6, rtol=1e-4
            )


def test_without_a_process_group_nothing_changes():
    rows = torch.randn(3, 2)

    assert world_size() == 1
    assert gather(rows) is rows
    with pytest.raises(ValueError, match="gather: expected a tensor with rows, got a scalar"):
        gather(torch.tensor(1.0))
