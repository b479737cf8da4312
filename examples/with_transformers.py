"""The library's parts with Hugging Face's Trainer: python -m examples.with_transformers (pip install transformers)."""

import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainingArguments

from clipreid_kit import GeM, PKSampler, ReidResult, SupConLoss, WarmupCosineLR, evaluate_reid
from clipreid_kit.data import (
    ReidDataset,
    ReidItem,
    SyntheticReid,
    eval_transform,
    records_of,
    train_transform,
)


class Model(nn.Module):
    """A tower and its loss."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(3, 64, 4, stride=4), nn.BatchNorm2d(64), nn.ReLU()
        self.tower = nn.Sequential(
            *stem, nn.Conv2d(64, 128, 3, stride=2), GeM(), nn.Linear(128, 128)
        )
        self.loss = SupConLoss(
            temperature=0.1, distributed=True
        )  # on one process it is the plain loss

    def forward(self, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Loss and embeddings (N, D)."""
        found = self.tower(image)
        return {"loss": self.loss(found, label), "embeddings": found}


def collate(items: list[ReidItem]) -> dict[str, Tensor]:
    """Items of a ReidDataset by the names of the model's arguments."""
    return {
        "image": torch.stack([i.image for i in items]),
        "label": torch.tensor([i.label for i in items]),
    }


class ReidTrainer(Trainer):  # type: ignore[misc]
    """The Trainer with batches of P identities x K images."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches for this process; nothing else has to share them out."""
        data, args = self.train_dataset, self.args
        sampler = PKSampler(data.labels, 16, 4, rank=args.process_index, world_size=args.world_size)
        return DataLoader(data, batch_sampler=sampler, collate_fn=collate)


class SetEpoch(TrainerCallback):  # type: ignore[misc]
    """Other batches and other augmentation in each epoch."""

    def on_epoch_begin(self, _args: Any, state: Any, _control: Any, **given: Any) -> None:  # noqa: ANN401
        """Called before a batch is asked for."""
        for part in (given["train_dataloader"].batch_sampler, given["train_dataloader"].dataset):
            part.set_epoch(round(state.epoch))


def evaluate(trainer: ReidTrainer, query: ReidDataset, gallery: ReidDataset) -> ReidResult:
    """From the embeddings that the Trainer predicts."""
    found = (trainer.predict(part).predictions for part in (query, gallery))
    return evaluate_reid(*found, query_ids=query.labels, gallery_ids=gallery.labels)


def main(num_identities: int = 160, epochs: int = 16) -> tuple[ReidResult, ReidResult]:
    """Train, and return the results before and after."""
    torch.manual_seed(0)
    model, augment, plain = Model(), train_transform(32, pad=3), eval_transform(32)
    with tempfile.TemporaryDirectory() as folder:
        records = SyntheticReid(num_identities, views_per_camera=2, image_size=(32, 32)).write(
            folder
        )
        train = ReidDataset(records_of(records, "train"), augment, cache=True)
        query = ReidDataset(records_of(records, "query"), plain, cache=True)
        gallery = ReidDataset(
            records_of(records, "gallery"), plain, cache=True, identities=query.identities
        )
        quiet = {"report_to": [], "disable_tqdm": True, "save_strategy": "no"}
        args = TrainingArguments(
            folder, num_train_epochs=epochs, use_cpu=True, label_names=["label"], **quiet
        )
        steps = epochs * len(PKSampler(train.labels, 16, 4, world_size=args.world_size))
        rate = WarmupCosineLR(torch.optim.AdamW(model.parameters(), lr=3e-3), steps // 8, steps)
        trainer = ReidTrainer(
            model, args, collate, train, callbacks=[SetEpoch()], optimizers=(rate.optimizer, rate)
        )
        before = evaluate(trainer, query, gallery)
        trainer.train()
        return before, evaluate(trainer, query, gallery)


if __name__ == "__main__":
    print(*main(), sep="\n")
