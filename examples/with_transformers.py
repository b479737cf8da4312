"""The library's parts in Hugging Face's Trainer: python -m examples.with_transformers."""

import tempfile
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerState, TrainingArguments

from clipreid_kit import GeM, PKSampler, ReidResult, SupConLoss, WarmupCosineLR, evaluate_reid
from clipreid_kit.data import (
    ReidDataset,
    ReidItem,
    SyntheticReid,
    eval_transform,
    records_of,
    train_transform,
)

IMAGE_SIZE = (32, 32)


class Model(nn.Module):
    """A tower and its loss."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(3, 64, 4, stride=4), nn.BatchNorm2d(64), nn.ReLU()
        head = nn.Conv2d(64, 128, 3, stride=2), GeM(), nn.Linear(128, 128)
        self.tower = nn.Sequential(*stem, *head)
        self.loss = SupConLoss(temperature=0.1, distributed=True)  # works on one process as well

    def forward(self, image: Tensor, label: Tensor) -> dict[str, Tensor]:
        """Loss and embeddings (N, D)."""
        embeddings = self.tower(image)
        return {"loss": self.loss(embeddings, label), "embeddings": embeddings}


def collate(items: list[ReidItem]) -> dict[str, Tensor]:
    """Batch items by the names of the model's arguments."""
    images = torch.stack([item.image for item in items])
    labels = torch.tensor([item.label for item in items])
    return {"image": images, "label": labels}


class ReidTrainer(Trainer):  # type: ignore[misc]
    """The Trainer with batches of P identities x K images."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Batches of this process; the Trainer does not share them out again."""
        rank, world_size = self.args.process_index, self.args.world_size
        sampler = PKSampler(self.train_dataset.labels, 16, 4, rank=rank, world_size=world_size)
        return DataLoader(self.train_dataset, batch_sampler=sampler, collate_fn=collate)


class SetEpoch(TrainerCallback):  # type: ignore[misc]
    """Draw other batches and other augmentation in each epoch."""

    def on_epoch_begin(
        self,
        _args: TrainingArguments,
        state: TrainerState,
        _control: object,
        **given: Any,  # noqa: ANN401
    ) -> None:
        """Set the epoch before its first batch is drawn."""
        loader = given["train_dataloader"]
        loader.batch_sampler.set_epoch(round(state.epoch))
        loader.dataset.set_epoch(round(state.epoch))


def evaluate(trainer: ReidTrainer, query: ReidDataset, gallery: ReidDataset) -> ReidResult:
    """Evaluate the embeddings that the Trainer predicts."""
    query_embeddings = trainer.predict(query).predictions
    gallery_embeddings = trainer.predict(gallery).predictions
    return evaluate_reid(
        query_embeddings, gallery_embeddings, query_ids=query.labels, gallery_ids=gallery.labels
    )


def main(num_identities: int = 160, epochs: int = 16) -> tuple[ReidResult, ReidResult]:
    """Train, and return the results before and after."""
    torch.manual_seed(0)
    model = Model()
    augment, plain = train_transform(IMAGE_SIZE, pad=3), eval_transform(IMAGE_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        images = SyntheticReid(num_identities, views_per_camera=2, image_size=IMAGE_SIZE)
        records = images.write(folder)
        train = ReidDataset(records_of(records, "train"), augment, cache=True)
        query = ReidDataset(records_of(records, "query"), plain, cache=True)
        gallery = ReidDataset(
            records_of(records, "gallery"), plain, cache=True, identities=query.identities
        )

        arguments = TrainingArguments(
            folder,
            num_train_epochs=epochs,
            label_names=["label"],
            use_cpu=True,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        steps = epochs * len(PKSampler(train.labels, 16, 4, world_size=arguments.world_size))
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
        schedule = WarmupCosineLR(optimizer, warmup_steps=steps // 8, total_steps=steps)

        optimizers = (optimizer, schedule)
        trainer = ReidTrainer(
            model, arguments, collate, train, callbacks=[SetEpoch()], optimizers=optimizers
        )
        before = evaluate(trainer, query, gallery)
        trainer.train()
        return before, evaluate(trainer, query, gallery)


if __name__ == "__main__":
    print(*main(), sep="\n")
