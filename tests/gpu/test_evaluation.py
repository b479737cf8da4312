"""Evaluation, re-ranking, mining and samplers with tensors on a GPU, without one: equal results."""

import dataclasses

import numpy as np
import pytest
import torch
from gpu.pretend_cuda import OnCuda, pretend_cuda, to_cuda

from clipreid_kit import (
    HardIdentitySampler,
    PKSampler,
    evaluate_reid,
    evaluate_retrieval,
    k_reciprocal_rerank,
    query_expansion,
)
from clipreid_kit.data import mine_hard_negatives, mine_triplets
from clipreid_kit.metrics import ReidEvaluator, evaluate_open_set, evaluate_verification

NUM_QUERIES = 20
LABELS = torch.arange(60) % 12
LABELS[:3] += 100  # identities that the gallery lacks
CAMERAS = torch.arange(60) % 5 % 3


def embeddings(dtype):
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(12, 16, generator=generator)
    return (centres[LABELS % 12] + torch.randn(60, 16, generator=generator)).to(dtype)


def by_blocks(rows, labels, cameras):
    evaluator = ReidEvaluator(distance="euclidean", ties="mean")
    for start in range(0, 60, 10):
        part = slice(start, start + 10)
        split = "query" if start < NUM_QUERIES else "gallery"
        evaluator.update(rows[part], labels[part], cameras[part], split=split)
    return evaluator.compute()


def two_sides(evaluate, **options):
    def work(rows, labels, cameras):
        del cameras
        ids = {"query_ids": labels[:NUM_QUERIES], "gallery_ids": labels[NUM_QUERIES:]}
        return evaluate(rows[:NUM_QUERIES], rows[NUM_QUERIES:], **ids, **options)

    return work


def with_cameras(rows, labels, cameras):
    return evaluate_reid(
        rows[:NUM_QUERIES],
        rows[NUM_QUERIES:],
        query_ids=labels[:NUM_QUERIES],
        gallery_ids=labels[NUM_QUERIES:],
        query_cameras=cameras[:NUM_QUERIES],
        gallery_cameras=cameras[NUM_QUERIES:],
    )


def hard_identities(rows, labels, cameras):
    del cameras
    sampler = HardIdentitySampler(labels, 4, 2)
    sampler.update(rows, labels)
    return list(sampler)


WORK = {
    "evaluate_reid": with_cameras,
    "evaluate_reid, euclidean": two_sides(evaluate_reid, distance="euclidean"),
    "ReidEvaluator": by_blocks,
    "evaluate_retrieval": two_sides(evaluate_retrieval),
    "evaluate_open_set": two_sides(evaluate_open_set),
    "evaluate_verification": lambda rows, labels, _: evaluate_verification(rows, query_ids=labels),
    "k_reciprocal_rerank": lambda rows, *_: k_reciprocal_rerank(rows[:20], rows[20:], k1=5, k2=3),
    "query_expansion": lambda rows, *_: query_expansion(rows[:20], rows[20:], k=3),
    "PKSampler": lambda _, labels, cameras: list(PKSampler(labels, 4, 2, cameras=cameras)),
    "HardIdentitySampler": hard_identities,
    "mine_hard_negatives": lambda rows, labels, _: mine_hard_negatives(rows, labels),
    "mine_triplets": lambda rows, labels, _: mine_triplets(rows, labels),
}


def plain(result):
    """A result as numbers, lists and arrays."""
    if isinstance(result, OnCuda):
        return result.values_on_cpu.numpy()
    if isinstance(result, torch.Tensor):
        return result.numpy()
    if dataclasses.is_dataclass(result):
        return {f.name: plain(getattr(result, f.name)) for f in dataclasses.fields(result)}
    return result


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", WORK)
def test_equals_the_cpu(name, dtype):
    inputs = embeddings(dtype), LABELS, CAMERAS
    expected = WORK[name](*inputs)

    with pretend_cuda():
        found = WORK[name](*map(to_cuda, inputs))

    if name == "k_reciprocal_rerank":  # distances, and not ranks: equal to rounding
        np.testing.assert_allclose(plain(found), plain(expected), rtol=1e-5)
    else:
        np.testing.assert_equal(plain(found), plain(expected))
