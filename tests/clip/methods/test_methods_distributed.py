"""The averaged gradient of DDP on two ranks is that of one process with the whole batch."""

from functools import partial
from unittest import mock

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from tiny_towers import tiny_towers

from clipreid_kit import MaskedLanguageHead, SDMLoss, TokenSelection, TripletAlignmentLoss
from clipreid_kit.clip import (
    ClipBaseline,
    ClipReID,
    ClipReIDPromptStage,
    IdentityBranch,
    IdentityPromptLearner,
    PromptSG,
    TextToPerson,
)
from clipreid_kit.clip.methods import text_to_person
from clipreid_kit.modules import TextualInversionMLP
from clipreid_kit.modules.masked_language import MaskedTokens

SIZE = (64, 32)
METHODS = ("prompts", "clip_reid", "prompt_sg", "baseline", "text_to_person")
LABELS = torch.tensor([0, 0, 1, 1, 2, 0, 2])
ROWS_OF_RANK = (slice(0, 4), slice(4, None))  # four and three rows: a ragged last batch
TOKENS = torch.arange(21).reshape(7, 3) % 5 + 300  # the largest token of a text is its end

BASELINE_WEIGHTS = {
    "id": 0.5,
    "triplet": 1.0,
    "center": 0.01,
    "prototype": 0.1,
    "supcon_image": 0.3,
    "recall_surrogate": 0.1,
    "smooth_ap": 0.1,
    "supcon_text": 0.4,
    "info_nce": 0.2,
    "hard_negative": 0.2,
    "triplet_text": 0.3,
    "sdm": 0.01,
    "triplet_alignment": 0.1,
    "cmpm": 0.1,
}
TEXT_WEIGHTS = {
    "id": 0.5,
    "id_text": 0.5,
    "sdm": 0.01,
    "triplet_alignment": 0.1,
    "masked_language": 0.1,
}
PAIR_WEIGHTS = torch.tensor([1.0, 0.0, 1.0, 0.5, 1.0, 1.0, 0.0])
CLIP_REID_WEIGHTS = {
    "id": 0.5,
    "triplet": 1.0,
    "image_to_text": 0.7,
    "supcon": 0.3,
    "arcface": 0.2,
    "center": 0.01,
}


def build_method(name, *, distributed):
    torch.manual_seed(0)
    towers = tiny_towers(image_size=SIZE)
    if name == "prompts":
        prompts = IdentityPromptLearner(towers, 3)
        return ClipReIDPromptStage(towers, prompts, distributed=distributed)

    branch = partial(IdentityBranch, sync_neck=True)
    options = {"image_blocks": 1, "distributed": distributed, "identity": branch}
    if name == "clip_reid":
        return ClipReID(towers, torch.randn(3, 128), weights=CLIP_REID_WEIGHTS, **options)
    if name == "baseline":
        return ClipBaseline(towers, 3, weights=BASELINE_WEIGHTS, text_blocks=1, **options)
    if name == "text_to_person":
        return text_method(towers, branch, distributed=distributed)

    inversion = TextualInversionMLP(towers.embed_dim, towers.text_width, distributed=distributed)
    return PromptSG(towers, 3, inversion=inversion, **options)


def text_method(towers, branch, *, distributed):
    pairs = {"distributed": distributed, "reduction": "none"}
    return TextToPerson(
        towers,
        3,
        weights=TEXT_WEIGHTS,
        losses={"sdm": SDMLoss(**pairs), "triplet_alignment": TripletAlignmentLoss(**pairs)},
        selections=(TokenSelection(128, 16), TokenSelection(128, 16)),
        masked_language=MaskedLanguageHead(128, 49408, num_blocks=0, num_heads=4),
        identity=branch,
        image_blocks=1,
        text_blocks=1,
        distributed=distributed,
    )


def mask_even_tokens(tokens, maskable, mask_id, vocabulary_size):
    """As many words of each text, whatever rank it is on; random masks would differ."""
    del maskable, vocabulary_size
    chosen = tokens % 2 == 0
    return MaskedTokens(tokens.masked_fill(chosen, mask_id), tokens.masked_fill(~chosen, -100))


def inputs_of(name):
    torch.manual_seed(1)
    return torch.randn(7, 128) if name == "prompts" else torch.randn(7, 3, *SIZE)


def loss_and_gradients(name, rows, model, method):
    """Loss of ``model``, which is the method or its wrapper; gradients and statistics of it."""
    # Training mode, where the necks take their statistics from all ranks.
    options = {"tokens": TOKENS[rows]} if name in ("baseline", "text_to_person") else {}
    if name == "text_to_person":
        options["pair_weights"] = PAIR_WEIGHTS[rows]
    with mock.patch.object(text_to_person, "mask_tokens", mask_even_tokens):
        loss = model(inputs_of(name)[rows], LABELS[rows], **options).loss
    loss.backward()

    parameters = method.named_parameters()
    gradients = {key: p.grad.clone() for key, p in parameters if p.grad is not None}
    statistics = {key: b.clone() for key, b in method.named_buffers() if ".norm." in key}
    return loss.item(), gradients | statistics


def run_rank(rank, port, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    for name in METHODS:
        method = build_method(name, distributed=True)
        wrapped = torch.nn.parallel.DistributedDataParallel(method)
        results = loss_and_gradients(name, ROWS_OF_RANK[rank], wrapped, method)
        torch.save(results, f"{folder}/{name}{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_equal_one(free_port, tmp_path):
    mp.spawn(run_rank, args=(free_port, str(tmp_path)), nprocs=2)

    for name in METHODS:
        method = build_method(name, distributed=False)
        expected_loss, expected = loss_and_gradients(name, slice(None), method, method)
        for rank in range(2):
            loss, gradients = torch.load(tmp_path / f"{name}{rank}.pt")
            assert loss == pytest.approx(expected_loss, rel=1e-4)
            assert gradients.keys() == expected.keys()
            for key, gradient in gradients.items():
                difference = (gradient - expected[key]).abs()
                tolerance = 2e-5 + 1e-3 * expected[key].abs()
                assert (difference <= tolerance).all(), f"{name}, rank {rank}, {key}"
