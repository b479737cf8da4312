"""The library's parts in a LightningModule: python -m examples.with_lightning (needs pip install lightning)."""

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

SIZE = (32, 32)


class Module(lightning.LightningModule):  # type: ignore[misc]
    """A tower, a loss, a schedule by steps, and an evaluator that collects what comes."""

    def __init__(self) -> None:
        super().__init__()
        stem = nn.Conv2d(3, 64, 4, stride=4), nn.BatchNorm2d(64), nn.ReLU()
        self.tower = nn.Sequential(
            *stem, nn.Conv2d(64, 128, 3, stride=2), GeM(), nn.Linear(128, 128)
        )
        self.loss = SupConLoss(
            temperature=0.1, distributed=True
        )  # on one process it is the plain loss
        self.evaluator = ReidEvaluator(distributed=True)
        self.results: list[ReidResult] = []

    def training_step(self, batch: ReidItem) -> Tensor:
        """A batch of the sampler."""
        return self.loss(self.tower(batch.image), batch.label)  # type: ignore[no-any-return]

    def validation_step(self, batch: list[Tensor], _index: int, dataloader_idx: int) -> None:
        """Queries come from the first loader, the gallery from the second."""
        image, label, camera, _ = batch
        self.evaluator.update(
            self.tower(image), label, camera, split="gallery" if dataloader_idx else "query"
        )

    def on_validation_epoch_end(self) -> None:
        """Log fractions."""
        self.results.append(self.evaluator.compute())
        self.evaluator.reset()
        self.log_dict({"mean_ap": self.results[-1].mean_ap, "rank_1": self.results[-1].rank(1)})

    def on_train_epoch_start(self) -> None:
        """Lightning tells epochs to samplers of single rows only."""
        self.trainer.train_dataloader.batch_sampler.set_epoch(self.current_epoch)
        self.trainer.train_dataloader.dataset.set_epoch(self.current_epoch)

    def configure_optimizers(self) -> Any:  # noqa: ANN401
        """The schedule counts steps."""
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3)
        total = int(self.trainer.estimated_stepping_batches)
        schedule = WarmupCosineLR(optimizer, warmup_steps=total // 8, total_steps=total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def main(num_identities: int = 160, epochs: int = 8) -> tuple[ReidResult, ReidResult]:
    """Train, and return the results before and after."""
    lightning.seed_everything(0, verbose=False)
    augment, plain = train_transform(SIZE, pad=3), eval_transform(SIZE)
    with tempfile.TemporaryDirectory() as folder:
        records = SyntheticReid(num_identities, views_per_camera=2, image_size=SIZE).write(folder)
        train = ReidDataset(records_of(records, "train"), augment, cache=True)
        query = ReidDataset(records_of(records, "query"), plain, cache=True)
        gallery = ReidDataset(
            records_of(records, "gallery"), plain, cache=True, identities=query.identities
        )
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {
        "use_distributed_sampler": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        **quiet,
    }
    trainer, module = lightning.Trainer(accelerator="cpu", max_epochs=epochs, **options), Module()
    sampler = PKSampler(
        train.labels,
        16,
        4,
        coverage="images",
        rank=trainer.global_rank,
        world_size=trainer.world_size,
    )
    loaders = [DataLoader(part, batch_size=64) for part in (query, gallery)]
    trainer.validate(module, loaders, verbose=False)
    trainer.fit(module, DataLoader(train, batch_sampler=sampler), loaders)
    return module.results[0], module.results[-1]


if __name__ == "__main__":
    print(*main(), sep="\n")
