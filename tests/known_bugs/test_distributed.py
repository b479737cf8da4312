"""Losses and figures of two ranks that differ from those of one, in neighbouring projects."""

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from two_ranks import on_two_ranks

from clipreid_kit import InfoNCELoss, PKSampler, ReidEvaluator, SupConLoss, evaluate_reid
from clipreid_kit.distributed import gather

LABELS = torch.tensor([0, 0, 1, 1, 2, 0, 2])
needs_ranks = pytest.mark.slow  # starts two processes

SPLIT = 4  # rank 0 has four rows, rank 1 has three: a ragged last batch


def model_and_rows():
    torch.manual_seed(3)
    return torch.nn.Linear(6, 4), torch.randn(7, 6)


def info_nce(model, rows):
    """The symmetric loss of all pairs, written out."""
    images, texts = (F.normalize(model(side), dim=1) for side in (rows, rows.flip(1)))
    logits = images @ texts.T / 0.1
    target = torch.arange(len(rows))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def evaluation_sides():
    rng = torch.Generator().manual_seed(8)
    return {
        "query_embeddings": torch.randn(7, 5, generator=rng),
        "gallery_embeddings": torch.randn(7, 5, generator=rng),
        "query_ids": LABELS,
        "gallery_ids": LABELS,
    }


def two_towers(model, rows, loss):
    images, texts = model(torch.cat([rows, rows.flip(1)])).chunk(2)
    return loss(images, texts)


def findings_of_rank(rank):
    mine = slice(None, SPLIT) if rank == 0 else slice(SPLIT, None)
    found = {}

    # The gradient through `gather` alone: every rank adds up all rows, rank r with weight r + 1.
    rows = torch.ones(len(LABELS[mine]), 2, requires_grad=True)
    (gather(rows).sum() * (dist.get_rank() + 1)).backward()
    found["gather"] = rows.grad.tolist()
    found["order"] = gather(torch.arange(7)[mine]).tolist()

    model, rows = model_and_rows()
    wrapped = DistributedDataParallel(model)
    value = two_towers(wrapped, rows[mine], InfoNCELoss(0.1, distributed=True))
    value.backward()
    found["info_nce"] = value.item(), model.weight.grad.tolist()

    model, rows = model_and_rows()
    local = two_towers(model, rows[mine], InfoNCELoss(0.1))
    found["local"] = local.item()

    model, rows = model_and_rows()
    wrapped = DistributedDataParallel(model)
    SupConLoss(0.2, distributed=True)(wrapped(rows[mine]), LABELS[mine]).backward()
    found["supcon"] = model.weight.grad.tolist()

    sides = evaluation_sides()
    evaluator = ReidEvaluator(distributed=True)
    evaluator.update(sides["query_embeddings"][mine], LABELS[mine], split="query")
    evaluator.update(sides["gallery_embeddings"][mine], LABELS[mine], split="gallery")
    result = evaluator.compute()
    found["evaluation"] = result.num_queries, result.num_gallery, result.mean_ap
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return on_two_ranks(findings_of_rank, tmp_path_factory.mktemp("ranks"))


@needs_ranks
def test_gradients_of_all_ranks_are_added(ranks):
    """lightly#1528: the backward pass of the gather drops the gradients of the other ranks.

    Here: the sum over the ranks.
    """
    assert ranks[0]["gather"] == [[1 + 2, 1 + 2]] * 4
    assert ranks[1]["gather"] == [[1 + 2, 1 + 2]] * 3


@needs_ranks
def test_the_gradient_is_not_divided_by_the_ranks(ranks):
    """lightly#1977: a loss of two ranks has 1/2 of the gradient of the whole batch.

    Here: after DDP's mean, that of one process with all rows.
    """
    model, rows = model_and_rows()
    whole = info_nce(model, rows)
    whole.backward()

    for rank in range(2):
        value, gradient = ranks[rank]["info_nce"]
        assert value == pytest.approx(whole.item(), rel=1e-5)
        torch.testing.assert_close(torch.tensor(gradient), model.weight.grad, atol=1e-6, rtol=1e-4)


@needs_ranks
def test_labels_of_a_local_loss(ranks):
    """lightly#1176: without gathering, the targets still skip the rows of the ranks before.

    Here: a loss that does not gather is the one of the rank's own rows.
    """
    model, rows = model_and_rows()
    for rank, mine in ((0, slice(None, SPLIT)), (1, slice(SPLIT, None))):
        assert ranks[rank]["local"] == pytest.approx(info_nce(model, rows[mine]).item(), rel=1e-5)


@needs_ranks
def test_rows_are_in_the_order_of_the_ranks(ranks):
    """pytorch-metric-learning#639: each rank finds its own rows first, so a memory differs by rank.

    Here: the same order on every rank, also with unequal numbers of rows.
    """
    assert ranks[0]["order"] == ranks[1]["order"] == list(range(7))


@needs_ranks
def test_positives_on_other_ranks(ranks):
    """microsoft/UniCL#5: the features of all ranks are announced, but never gathered.

    Here: positives of all ranks; the gradient is that of the definition over all rows.
    """
    model, rows = model_and_rows()
    unit = F.normalize(model(rows), dim=1)
    logits = (unit @ unit.T / 0.2).masked_fill(torch.eye(7, dtype=torch.bool), -torch.inf)
    positive = (LABELS[:, None] == LABELS).fill_diagonal_(False)
    log_probability = logits.log_softmax(dim=1).masked_fill(~positive, 0)
    (-log_probability.sum(dim=1) / positive.sum(dim=1)).mean().backward()

    for rank in range(2):
        got = torch.tensor(ranks[rank]["supcon"])
        torch.testing.assert_close(got, model.weight.grad, atol=1e-6, rtol=1e-4)


@needs_ranks
def test_rows_are_not_evaluated_twice(ranks):
    """huggingface/accelerate#350: batches of several ranks are filled up by copies, which count.

    Here: each row counts once, and the figures are those of one process.
    """
    want = evaluate_reid(**evaluation_sides())
    for rank in range(2):
        assert ranks[rank]["evaluation"] == (7, 7, want.mean_ap)


def test_every_rank_has_equally_many_batches():
    """pytorch/pytorch#22584: ranks of unequal length wait for each other for ever at the end.

    Here: all ranks have equally many batches, without filling up by copies of the first rows.
    """
    labels = torch.arange(46) // 2
    for world_size in (2, 3):
        lengths = {
            len(list(PKSampler(labels, 3, 2, rank=rank, world_size=world_size)))
            for rank in range(world_size)
        }
        assert len(lengths) == 1
