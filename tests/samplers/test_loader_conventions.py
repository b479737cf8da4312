"""What Accelerate and Lightning do with the samplers: epochs arrive, and shards of shards warn."""

import warnings

import pytest
import torch
from every_sampler import BUILD as BUILDERS
from torch.utils.data import DataLoader

BUILD = pytest.mark.parametrize("build", BUILDERS.values(), ids=BUILDERS)


def prepared(sampler, num_processes, process_index=0):
    """The loader that accelerator.prepare returns on one of several processes."""
    data_loader = pytest.importorskip("accelerate.data_loader")
    pytest.importorskip("accelerate").PartialState(cpu=True)
    return data_loader.prepare_data_loader(
        DataLoader(range(24), batch_sampler=sampler),
        num_processes=num_processes,
        process_index=process_index,
    )


@BUILD
def test_the_sampler_inside_sets_the_epoch(build):
    sampler = build()
    sampler.sampler.set_epoch(4)
    assert sampler.epoch == 4
    with pytest.raises(ValueError, match=r"set_epoch: expected epoch as a whole number >= 0"):
        sampler.sampler.set_epoch(-1)


@BUILD
def test_a_prepared_loader_of_several_processes_sets_the_epoch(build):
    loaders = [prepared(build(), 2, process_index) for process_index in range(2)]

    for epoch in range(3):
        expected = build()
        expected.set_epoch(epoch)
        batches = [[batch.tolist() for batch in loader] for loader in loaders]
        in_turn = [batch for pair in zip(*batches, strict=True) for batch in pair]
        assert in_turn == list(expected)


@pytest.mark.unhooked
@BUILD
def test_batches_that_are_shared_out_twice_are_warned_of_once(build):
    sampler = build(world_size=2)
    loader = prepared(sampler, 2)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        num_batches = [len(list(loader)) for _ in range(2)]

    assert num_batches == [-(-len(sampler) // 2)] * 2
    assert len(caught) == 1
    name = type(build()).__name__
    assert str(caught[0].message) == (
        f"{name}: the batches are shared out twice, by world_size=2 and by accelerator.prepare, "
        "so an epoch has only a part of them. Either leave rank and world_size at their defaults, "
        "or do not prepare the loader."
    )


@BUILD
def test_batches_that_are_shared_out_once_are_not_warned_of(build):
    """Warnings are errors in this suite."""
    assert list(prepared(build(), 2))
    assert list(prepared(build(world_size=2), 1))
    assert list(DataLoader(range(24), batch_sampler=build(world_size=2)))


@pytest.mark.slow  # importing lightning
@BUILD
def test_lightning_sets_the_epoch(build):
    lightning = pytest.importorskip("lightning")

    class Model(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))
            self.batches = {}

        def training_step(self, batch):
            self.batches.setdefault(self.current_epoch, []).append(batch.tolist())
            return self.weight.sum()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    model = Model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on workers
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_epochs=3,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(model, DataLoader(range(24), batch_sampler=build()))

    for epoch in range(3):
        expected = build()
        expected.set_epoch(epoch)
        assert model.batches[epoch] == list(expected)
    assert model.batches[0] != model.batches[1]
