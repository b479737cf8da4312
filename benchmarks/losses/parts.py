"""Parts around a loss: nested widths, distillation, noisy pairs, tokens, and an average of weights.

No package ships most of them. They are compared with their formula in torch's own modules, or with
the products that they cannot avoid.
"""

import copy

import numpy as np
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from benchmarks.losses.step import floor, seeded, step
from benchmarks.measure import OURS, Work
from clipreid_kit import (
    EmaTeacher,
    FeatureDistillationLoss,
    LogitDistillationLoss,
    MaskedLanguageHead,
    MatryoshkaLoss,
    RelationalDistillationLoss,
    SupConLoss,
    TokenSelection,
    clean_probability,
    divide_pairs,
)

DIM = 512
WIDTHS = (64, 128, 256, 512)
NUM_IDENTITIES = 10_000
WORDS, PATCHES, VOCABULARY = 32, 128, 49_408
LARGEST_OF_TOKENS = 64


def contenders(batch: int) -> dict[str, dict[str, Work]]:
    """Cases at one batch size; those of tokens and weights, which do not grow, at 64 alone."""
    rows = torch.randn(batch, DIM, generator=seeded(0))
    cases = {
        "Matryoshka of SupCon, four widths": matryoshka(rows),
        "Relational distillation": relational(rows),
        "Feature distillation": feature(rows),
        "Logit distillation, C = 10,000": logit(batch),
        "Consensus division, 100 pairs for each row": division(100 * batch),
    }
    if batch <= LARGEST_OF_TOKENS:
        cases |= {
            "Token selection, 128 patches": token_selection(batch),
            "Masked-language head, 32 words": masked_language(batch),
            "EMA teacher, 25 million weights": ema_teacher(),
        }
    return cases


def matryoshka(rows: Tensor) -> dict[str, Work]:
    labels = torch.arange(len(rows)) // 4
    loss = SupConLoss()
    ours = MatryoshkaLoss(loss, WIDTHS)

    def products() -> None:
        for width in WIDTHS:
            floor(rows[:, :width].contiguous(), len(rows))()

    return {
        OURS: step(rows, lambda r: ours(r, labels)),
        "floor": products,
        "the full width alone": step(rows, lambda r: loss(r, labels)),
    }


def relational(rows: Tensor) -> dict[str, Work]:
    teacher = torch.randn(len(rows), DIM, generator=seeded(1))
    ours = RelationalDistillationLoss()
    student_products = floor(rows, len(rows))
    itself = torch.eye(len(rows), dtype=torch.bool)

    def products() -> None:
        student_products()
        teacher @ teacher.T

    def plain(r: Tensor) -> Tensor:
        own, their = (functional.normalize(x) for x in (r, teacher))
        own, their = ((x @ x.T / 0.1).masked_fill(itself, -1e9) for x in (own, their))
        wanted, found = their.log_softmax(1), own.log_softmax(1)
        return functional.kl_div(found, wanted, log_target=True, reduction="batchmean")

    return {
        OURS: step(rows, lambda r: ours(r, teacher)),
        "floor": products,
        "torch": step(rows, plain),
    }


def feature(rows: Tensor) -> dict[str, Work]:
    teacher = torch.randn(len(rows), DIM, generator=seeded(1))
    ours = FeatureDistillationLoss()
    return {
        OURS: step(rows, lambda r: ours(r, teacher)),
        "torch": step(rows, lambda r: (1 - functional.cosine_similarity(r, teacher)).mean()),
    }


def logit(batch: int) -> dict[str, Work]:
    student, teacher = torch.randn(2, batch, NUM_IDENTITIES, generator=seeded(2))
    ours = LogitDistillationLoss()

    def plain(logits: Tensor) -> Tensor:
        wanted, found = (teacher / 4).log_softmax(1), (logits / 4).log_softmax(1)
        return 16 * functional.kl_div(found, wanted, log_target=True, reduction="batchmean")

    return {OURS: step(student, lambda s: ours(s, teacher)), "torch": step(student, plain)}


def division(num_pairs: int) -> dict[str, Work]:
    losses = torch.rand(2, num_pairs, generator=seeded(3)) + (torch.arange(num_pairs) % 3 == 0)

    def ours() -> None:
        first, second = (clean_probability(of_part) > 0.5 for of_part in losses)
        divide_pairs(first, second)

    def mixtures() -> None:
        for of_part in losses:
            column = np.asarray(of_part, dtype=np.float64)[:, None]
            GaussianMixture(2, random_state=0).fit(column).predict_proba(column)

    return {OURS: ours, "floor: two mixtures of scikit-learn": mixtures}


def token_selection(batch: int) -> dict[str, Work]:
    selection = TokenSelection(DIM, 1024)
    tokens = torch.randn(batch * PATCHES, DIM, generator=seeded(4))
    importance = torch.rand(batch, PATCHES, generator=seeded(5))
    num_selected = int(selection.ratio * PATCHES)

    def products(rows: Tensor) -> Tensor:
        chosen = rows.view(batch, PATCHES, DIM)[:, :num_selected]
        return (selection.mlp(chosen) + selection.linear(chosen)).amax(dim=1).sum()

    def ours(rows: Tensor) -> Tensor:
        return selection(rows.view(batch, PATCHES, DIM), importance).sum()

    return {OURS: step(tokens, ours), "floor": step(tokens, products)}


def masked_language(batch: int) -> dict[str, Work]:
    head = MaskedLanguageHead(DIM, VOCABULARY)
    words = torch.randn(batch * WORDS, DIM, generator=seeded(6))
    patches = torch.randn(batch, PATCHES, DIM, generator=seeded(7))
    targets = torch.randint(VOCABULARY, (batch, WORDS), generator=seeded(8))
    is_chosen = torch.rand(batch, WORDS, generator=seeded(9)) < 0.15
    targets = torch.where(is_chosen, targets, -100)

    attention = nn.MultiheadAttention(DIM, 8, batch_first=True)
    blocks = [
        nn.TransformerEncoderLayer(DIM, 8, 4 * DIM, 0.0, "gelu", batch_first=True, norm_first=True)
        for _ in range(4)
    ]
    guess = copy.deepcopy(head.head)

    def ours(rows: Tensor) -> Tensor:
        loss: Tensor = head(rows.view(batch, WORDS, DIM), patches, targets).loss
        return loss

    def of_torch(rows: Tensor, *, everywhere: bool) -> Tensor:
        states, _ = attention(rows.view(batch, WORDS, DIM), patches, patches, need_weights=False)
        for block in blocks:
            states = block(states)
        if everywhere:
            return functional.cross_entropy(guess(states).flatten(0, 1), targets.flatten())
        return functional.cross_entropy(guess(states[is_chosen]), targets[is_chosen])

    return {
        OURS: step(words, ours),
        "floor: torch's modules": step(words, lambda r: of_torch(r, everywhere=False)),
        "torch's modules, logits of all words": step(words, lambda r: of_torch(r, everywhere=True)),
    }


def ema_teacher() -> dict[str, Work]:
    student = nn.Sequential(*(nn.Linear(1024, 1024) for _ in range(24)))
    ours = EmaTeacher(student, 0.99)
    average = get_ema_multi_avg_fn(0.99)  # type: ignore[no-untyped-call]
    peer = AveragedModel(student, multi_avg_fn=average)
    peer.update_parameters(student)  # the first call copies
    own = [parameter.detach().clone() for parameter in student.parameters()]
    new = [parameter.detach() for parameter in student.parameters()]

    return {
        OURS: lambda: ours.update(student),
        "floor": lambda: torch._foreach_lerp_(own, new, 0.01),
        "torch AveragedModel": lambda: peer.update_parameters(student),
    }
