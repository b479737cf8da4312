"""The library's parts in a LightningModule: python -m examples.with_lightning."""

import tempfile
from typing import Any

import lightning
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from clipreid_kit import GeM, PKSampler, ReidEvaluator, ReidResult, SupConLoss, WarmupCosineLR
from clipreid_kit.data import (
    ReidDataset,
    ReidItem,
    SyntheticReid,
    eval_transform,
    records_of,
    train_transform,
)

IMAGE_SIZE = (32, 32)


class Module(lightning.LightningModule):  # type: ignore[misc]
    """A tower, a loss, a schedule by steps, and an evaluator that collects batches."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(
            nn.Conv2d(3, 64, 4, stride=4),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Conv2d(64, 128, 3, stride=2),
            GeM(),
            nn.Linear(128, 128),
        )
        # both work on one process as well
        self.loss = SupConLoss(temperature=0.1, distributed=True)
        self.evaluator = ReidEvaluator(distributed=True)
        self.results: list[ReidResult] = []

    def on_train_epoch_start(self) -> None:
        """Set the epoch of the data set; Lightning sets that of the batch sampler."""
        self.trainer.train_dataloader.dataset.set_epoch(self.current_epoch)

    def training_step(self, batch: ReidItem) -> Tensor:
        """Loss of a batch."""
        return self.loss(self.tower(batch.image), batch.label)  # type: ignore[no-any-return]

    def validation_step(self, batch: list[Tensor], _index: int, dataloader_idx: int) -> None:
        """Collect a batch; queries come from the first loader, the gallery from the second."""
        image, label, camera, _ = batch
        embeddings = self.tower(image)
        if dataloader_idx == 0:
            self.evaluator.update(embeddings, label, camera, split="query")
        else:
            self.evaluator.update(embeddings, label, camera, split="gallery")

    def on_validation_epoch_end(self) -> None:
        """Evaluate the collected batches, and log the rates as fractions."""
        result = self.evaluator.compute()
        self.evaluator.reset()
        self.results.append(result)
        self.log_dict({"mean_ap": result.mean_ap, "rank_1": result.rank(1)})

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """AdamW, with a schedule that counts steps."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
        total = int(self.trainer.estimated_stepping_batches)
        schedule = WarmupCosineLR(optimizer, warmup_steps=total // 8, total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(num_identities: int = 160, epochs: int = 8) -> tuple[ReidResult, ReidResult]:
    """Train, and return the results before and after."""
    lightning.seed_everything(0, verbose=False)
    augment, plain = train_transform(IMAGE_SIZE, pad=3), eval_transform(IMAGE_SIZE)
    with tempfile.TemporaryDirectory() as folder:
        images = SyntheticReid(num_identities, views_per_camera=2, image_size=IMAGE_SIZE)
        records = images.write(folder)
        train = ReidDataset(records_of(records, "train"), augment, cache=True)
        query = ReidDataset(records_of(records, "query"), plain, cache=True)
        gallery = ReidDataset(
            records_of(records, "gallery"), plain, cache=True, identities=query.identities
        )

    module = Module()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        use_distributed_sampler=False,  # PKSampler shares the batches out to processes
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        logger=False,
    )
    rank, world_size = trainer.global_rank, trainer.world_size
    sampler = PKSampler(train.labels, 16, 4, coverage="images", rank=rank, world_size=world_size)

    validation = [DataLoader(part, batch_size=64) for part in (query, gallery)]
    trainer.validate(module, validation, verbose=False)
    trainer.fit(module, DataLoader(train, batch_sampler=sampler), validation)
    return module.results[0], module.results[-1]


if __name__ == "__main__":
    print(*main(), sep="\n")
