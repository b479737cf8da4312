"""A loss and a data set of one's own among the library's parts: python -m examples.own_loss_own_data."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, softplus
from torch.utils.data import DataLoader, Dataset

from clipreid_kit import PKSampler, ReidResult, TripletLoss, WeightedSum, evaluate_reid, linear_ramp
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.distributed import gather

VIEWS = 6


class Patterns(Dataset[tuple[Tensor, int]]):
    """One's own data: a coarse pattern is an identity; its images are shifted, brighter or darker, and noisy."""

    def __init__(self, first: int, count: int) -> None:
        # all that a sampler asks of a data set: the identity of each row
        self.labels = torch.arange(first, first + count).repeat_interleave(VIEWS)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = int(self.labels[index])
        pattern = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(label))
        rng = torch.Generator().manual_seed(1000 * label + index % VIEWS)
        image = interpolate(pattern, (32, 32), mode="bilinear")[0]
        shift = torch.randint(-4, 5, (2,), generator=rng).tolist()
        light = 0.5 + torch.rand(1, generator=rng)
        return torch.roll(image, shift, (1, 2)) * light + 0.2 * torch.randn(
            3, 32, 32, generator=rng
        ), label


class PairLoss(nn.Module):
    """One's own loss: each pair is told apart by its cosine. ``gather`` makes it see the batches of all processes."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Logistic loss of right and of wrong pairs, which weigh the same."""
        embeddings, labels = gather(embeddings), gather(labels)
        logits = 10 * cosine_similarity(embeddings, embeddings) - 5
        same = labels[:, None] == labels
        return softplus(-logits[same]).mean() + softplus(logits[~same]).mean()


@torch.no_grad()
def evaluate(tower: nn.Module, data: Patterns) -> ReidResult:
    """The first image of each identity is searched among the others; identities may be numbers or words."""
    embeddings = tower.eval()(torch.stack([data[row][0] for row in range(len(data))]))
    first = torch.arange(len(data)) % VIEWS == 0
    names = {
        part: [f"pattern {label}" for label in data.labels[part == first].tolist()]
        for part in (True, False)
    }
    return evaluate_reid(
        embeddings[first], embeddings[~first], query_ids=names[True], gallery_ids=names[False]
    )


def main(num_identities: int = 96, epochs: int = 12) -> tuple[ReidResult, ReidResult]:
    """Train, and return the results on unseen patterns before and after."""
    torch.manual_seed(0)
    train, test = Patterns(0, num_identities), Patterns(num_identities, num_identities)
    tower = nn.Sequential(
        nn.Conv2d(3, 64, 8, 4), nn.BatchNorm2d(64), nn.ReLU(), nn.Flatten(), nn.Linear(3136, 128)
    )
    before = evaluate(tower, test)
    terms = {"pairs": PairLoss(), "triplet": TripletLoss(margin=0.3, distance="cosine")}
    total = WeightedSum({"pairs": 1.0, "triplet": partial(linear_ramp, start=2, end=6)})
    optimizer = torch.optim.AdamW(tower.parameters(), lr=3e-3)
    sampler = PKSampler(train.labels, num_identities=16, num_instances=4, coverage="images")
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        for image, label in DataLoader(train, batch_sampler=sampler):
            embeddings = tower.train()(image)
            loss, parts = total(
                {name: term(embeddings, label) for name, term in terms.items()}, step=epoch
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch + 1}:", *(f"{name} {part.item():.3f}" for name, part in parts.items()))
    return before, evaluate(tower, test)


if __name__ == "__main__":
    print(*main(), sep="\n")
