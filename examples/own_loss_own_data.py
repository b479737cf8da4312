"""Your own loss and data set with the library's parts: python -m examples.own_loss_own_data."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, softplus
from torch.utils.data import DataLoader, Dataset

from clipreid_kit import PKSampler, ReidResult, TripletLoss, WeightedSum, evaluate_reid, linear_ramp
from clipreid_kit.distances import cosine_similarity
from clipreid_kit.distributed import gather

IMAGES_PER_IDENTITY = 6


class Patterns(Dataset[tuple[Tensor, int]]):
    """A data set of your own: an identity is a pattern, its images are shifted, lit and noisy."""

    def __init__(self, first: int, count: int) -> None:
        # all that a sampler needs of a data set: the identity of each row
        self.labels = torch.arange(first, first + count).repeat_interleave(IMAGES_PER_IDENTITY)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        label = int(self.labels[index])
        pattern = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(label))
        image = interpolate(pattern, (32, 32), mode="bilinear")[0]

        seed = 1000 * label + index % IMAGES_PER_IDENTITY
        generator = torch.Generator().manual_seed(seed)
        shift = torch.randint(-4, 5, (2,), generator=generator).tolist()
        light = 0.5 + torch.rand(1, generator=generator)
        noise = 0.2 * torch.randn(3, 32, 32, generator=generator)
        return torch.roll(image, shift, (1, 2)) * light + noise, label


class PairLoss(nn.Module):
    """A loss of your own: logistic regression on the cosines of all pairs."""

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mean loss of matching pairs plus that of other pairs, over all processes."""
        embeddings, labels = gather(embeddings), gather(labels)
        logits = 10 * cosine_similarity(embeddings, embeddings) - 5
        same = labels[:, None] == labels
        return softplus(-logits[same]).mean() + softplus(logits[~same]).mean()


@torch.no_grad()
def evaluate(tower: nn.Module, data: Patterns) -> ReidResult:
    """Search each identity's first image among the others; any names may be identities."""
    tower.eval()
    embeddings = tower(torch.stack([data[row][0] for row in range(len(data))]))
    tower.train()

    is_query = torch.arange(len(data)) % IMAGES_PER_IDENTITY == 0
    return evaluate_reid(
        embeddings[is_query],
        embeddings[~is_query],
        query_ids=[f"pattern {label}" for label in data.labels[is_query].tolist()],
        gallery_ids=[f"pattern {label}" for label in data.labels[~is_query].tolist()],
    )


def main(num_identities: int = 96, epochs: int = 12) -> tuple[ReidResult, ReidResult]:
    """Train, and return the results on unseen patterns before and after."""
    torch.manual_seed(0)
    train = Patterns(0, num_identities)
    test = Patterns(num_identities, num_identities)

    tower = nn.Sequential(
        nn.Conv2d(3, 64, 8, stride=4),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(3136, 128),
    )
    before = evaluate(tower, test)

    # the weight of the triplet loss rises from 0 to 1 between epochs 2 and 6
    losses = {"pairs": PairLoss(), "triplet": TripletLoss(margin=0.3, distance="cosine")}
    weighted_sum = WeightedSum({"pairs": 1.0, "triplet": partial(linear_ramp, start=2, end=6)})

    sampler = PKSampler(train.labels, num_identities=16, num_instances=4, coverage="images")
    loader = DataLoader(train, batch_sampler=sampler)
    optimizer = torch.optim.AdamW(tower.parameters(), lr=3e-3)

    for epoch in range(epochs):
        sampler.set_epoch(epoch)

        for image, label in loader:
            embeddings = tower(image)
            terms = {name: loss(embeddings, label) for name, loss in losses.items()}
            total, weighted_terms = weighted_sum(terms, step=epoch)

            optimizer.zero_grad()
            total.backward()
            optimizer.step()

        shown = " ".join(f"{name} {term.item():.3f}" for name, term in weighted_terms.items())
        print(f"epoch {epoch + 1}: {shown}")

    return before, evaluate(tower, test)


if __name__ == "__main__":
    print(*main(), sep="\n")
