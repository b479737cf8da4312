"""Two gloo processes, one loss: the averaged gradient is that of one with the whole batch."""

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from clipreid_kit.distributed import gather, local_losses, world_size
from clipreid_kit.losses import (
    ArcFaceLoss,
    CenterLoss,
    CircleLoss,
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

LABELS = [0, 0, 1, 1, 2, 0, 2]
SPLIT = 4  # rank 0 has four rows, rank 1 has three: a ragged last batch
DIM = 4


def in_two_batches(loss, images, texts, labels):
    """Texts first, so that images find something remembered."""
    return loss(texts, labels) + loss(images, labels)


def summed(loss, images, texts, labels):
    text = SupConLoss(distributed=loss.distributed)
    triplet = TripletLoss(distributed=loss.distributed)

    return loss({"text": text(images, labels, texts, labels), "triplet": triplet(images, labels)})[
        0
    ]


# name: (loss, what is called with it, images, texts and labels); parameters, buffers and gradients
# are all compared
CASES = {
    "supcon": (SupConLoss, lambda loss, images, texts, labels: loss(images, labels)),
    "supcon-text": (
        SupConLoss,
        lambda loss, images, texts, labels: loss(images, labels, texts, labels),
    ),
    "info_nce": (InfoNCELoss, lambda loss, images, texts, labels: loss(images, texts)),
    "info_nce-learned": (
        lambda distributed: InfoNCELoss(learnable=True, distributed=distributed),
        lambda loss, images, texts, labels: loss(images, texts),
    ),
    "triplet": (TripletLoss, lambda loss, images, texts, labels: loss(images, labels)),
    "triplet-all": (
        lambda distributed: TripletLoss(mining="all", distributed=distributed),
        lambda loss, images, texts, labels: loss(images, labels),
    ),
    # image against text
    "supcon-blocks": (
        lambda distributed: SupConLoss(block_size=3, distributed=distributed),
        lambda loss, images, texts, labels: loss(images, labels),
    ),
    "info_nce-smoothed": (
        lambda distributed: InfoNCELoss(
            learnable=True, label_smoothing=0.1, block_size=3, distributed=distributed
        ),
        lambda loss, images, texts, labels: loss(images, texts),
    ),
    "info_nce-focal": (
        lambda distributed: InfoNCELoss(focal_gamma=2.0, focal_alpha=0.5, distributed=distributed),
        lambda loss, images, texts, labels: loss(images, texts),
    ),
    "siglip": (SigLIPLoss, lambda loss, images, texts, labels: loss(images, texts)),
    "siglip-labels": (
        SigLIPLoss,
        lambda loss, images, texts, labels: loss(images, texts, labels, labels),
    ),
    "hard_negative": (
        lambda distributed: HardNegativeContrastiveLoss(margin=-0.5, distributed=distributed),
        lambda loss, images, texts, labels: loss(images, texts, labels),
    ),
    # with a memory or all classes
    "image_to_text": (
        lambda distributed: ImageToTextCELoss(distributed=distributed),
        lambda loss, images, texts, labels: loss(
            images, labels, torch.arange(3 * DIM).reshape(3, DIM).cos()
        ),
    ),
    "prototype_memory": (
        lambda distributed: PrototypeMemoryLoss(DIM, 4, distributed=distributed),
        in_two_batches,
    ),
    "prototype_memory-each": (
        lambda distributed: PrototypeMemoryLoss(DIM, 4, update="each", distributed=distributed),
        lambda loss, images, texts, labels: [loss.initialize(texts, labels), loss(images, labels)][
            1
        ],
    ),
    "cross_batch_memory": (
        lambda distributed: CrossBatchMemory(SupConLoss(), DIM, 9, distributed=distributed),
        in_two_batches,
    ),
    # metric
    "triplet-text": (
        TripletLoss,
        lambda loss, images, texts, labels: loss(images, labels, texts, labels),
    ),
    "weighted_triplet": (
        WeightedTripletLoss,
        lambda loss, images, texts, labels: loss(images, labels),
    ),
    "weighted_triplet-text": (
        WeightedTripletLoss,
        lambda loss, images, texts, labels: loss(images, labels, texts, labels),
    ),
    "circle": (CircleLoss, lambda loss, images, texts, labels: loss(images, labels)),
    "multi_similarity": (
        MultiSimilarityLoss,
        lambda loss, images, texts, labels: loss(images, labels),
    ),
    "center": (
        lambda distributed: CenterLoss(DIM, 3, distributed=distributed),
        lambda loss, images, texts, labels: loss(images, labels),
    ),
    # heads
    "arcface": (
        lambda distributed: ArcFaceLoss(
            DIM, 3, num_centers=2, label_smoothing=0.1, distributed=distributed
        ),
        lambda loss, images, texts, labels: loss(images, labels),
    ),
    "arcface-sampled": (
        lambda distributed: ArcFaceLoss(DIM, 20, num_sampled=8, distributed=distributed),
        lambda loss, images, texts, labels: loss(images, labels),
    ),
    "cosface": (
        lambda distributed: CosFaceLoss(DIM, 3, distributed=distributed),
        lambda loss, images, texts, labels: loss(images, labels),
    ),
    "cosface-sampled": (
        lambda distributed: CosFaceLoss(DIM, 20, num_sampled=8, distributed=distributed),
        lambda loss, images, texts, labels: loss(images, labels),
    ),
    "proxy_anchor": (
        lambda distributed: ProxyAnchorLoss(DIM, 3, distributed=distributed),
        lambda loss, images, texts, labels: loss(images, labels),
    ),
    # sums of losses
    "weighted_sum-magnitude": (
        lambda distributed: WeightedSum(
            {"text": 1.0, "triplet": 2.0}, balance="magnitude", distributed=distributed
        ),
        summed,
    ),
    "weighted_sum-uncertainty": (
        lambda distributed: WeightedSum(
            {"text": 1.0, "triplet": 2.0}, balance="uncertainty", distributed=distributed
        ),
        summed,
    ),
}


def setting(name, distributed):
    torch.manual_seed(3)
    model, rows = torch.nn.Linear(6, DIM), torch.randn(len(LABELS), 6)
    return model, CASES[name][0](distributed=distributed), rows, torch.tensor(LABELS)


def step(name, model, loss, rows, labels):
    """One forward for both towers, as DDP counts forwards; then the loss, backward."""
    images, texts = model(torch.cat([rows, rows.flip(1)])).chunk(2)
    result = CASES[name][1](loss, images, texts, labels)
    result.backward()

    return result


def state(loss):
    return {key: tensor.detach().tolist() for key, tensor in loss.state_dict().items()}


def worker(rank, store, queue, done):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)

    try:
        mine = slice(None, SPLIT) if rank == 0 else slice(SPLIT, None)
        found = {}

        for name in CASES:
            model, loss, rows, labels = setting(name, distributed=True)
            wrapped = torch.nn.parallel.DistributedDataParallel(model)
            result = step(name, wrapped, loss, rows[mine], labels[mine])
            own = [parameter.grad.clone() for parameter in loss.parameters()]

            for gradient in own:  # as DDP does, where the loss is wrapped with the model
                dist.all_reduce(gradient)

            found[name] = (
                result.item(),
                model.weight.grad.tolist(),
                [(gradient / 2).tolist() for gradient in own],
                state(loss),
            )

        found["order"] = gather(torch.tensor(LABELS)[mine]).tolist()
        model, loss, rows, labels = setting("supcon", distributed=True)

        try:
            local_losses(torch.nn.parallel.DistributedDataParallel(model)).__enter__()
        except ValueError as error:
            found["wrapped"] = str(error)

        if rank == 0:  # the other one does not come
            with local_losses(torch.nn.ModuleList([loss])):
                found["alone"] = loss(model(rows[mine]), labels[mine]).item()

        queue.put((rank, found))
        done.wait(120)  # gloo aborts a process whose peer leaves while it still reads
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    context = mp.get_context("spawn")
    queue, done = context.Queue(), context.Event()
    store = tmp_path_factory.mktemp("two") / "store"
    processes = [
        context.Process(target=worker, args=(rank, store, queue, done)) for rank in range(2)
    ]

    for process in processes:
        process.start()

    found = dict(queue.get(timeout=300) for _ in processes)
    done.set()

    for process in processes:
        process.join(timeout=60)
        assert process.exitcode == 0

    return found


def test_rows_come_in_rank_order(results):
    assert results[0]["order"] == results[1]["order"] == LABELS


def test_one_rank_computes_a_local_loss(results):
    model, loss, rows, labels = setting("supcon", distributed=False)

    assert results[1]["wrapped"].startswith(
        "local_losses: the module is wrapped by DistributedDataParallel."
    )
    assert results[0]["alone"] == pytest.approx(
        loss(model(rows[:SPLIT]), labels[:SPLIT]).item(), rel=1e-6
    )


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
