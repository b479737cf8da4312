import json

import pytest
import torch

from clipreid_kit.clip import ClipTowers
from examples.trainer import checkpoint
from examples.trainer.checkpoint import Checkpoints, write_json


@pytest.fixture(scope="module")
def towers():
    return ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(32, 32))


def test_keeps_last_and_best_only(tmp_path, towers):
    checkpoints = Checkpoints(tmp_path)
    for epoch, best in [(1, True), (2, True), (3, False), (4, False)]:
        checkpoints.save(epoch, towers, {"epoch": epoch}, best=best)
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == ["epoch-0002", "epoch-0004", "index.json"]
    assert checkpoints.path("best").name == "epoch-0002"
    assert checkpoints.load_trainer(towers) == {"epoch": 4}


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", range(1, 8))
def test_a_kill_at_any_step_of_a_save_leaves_the_previous_checkpoint_whole(tmp_path, towers, monkeypatch, moment):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, towers, {"epoch": 1}, best=True)
    steps = 0

    def counted(original):
        def step(*arguments, **options):
            nonlocal steps
            steps += 1
            if steps == moment:
                raise Killed
            return original(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_towers", counted(checkpoint.save_towers))
        patch.setattr(checkpoint.torch, "save", counted(checkpoint.torch.save))
        patch.setattr(checkpoint, "_flush_folder", counted(checkpoint._flush_folder))
        patch.setattr(checkpoint, "write_json", counted(checkpoint.write_json))
        patch.setattr(checkpoint.shutil, "rmtree", counted(checkpoint.shutil.rmtree))
        with pytest.raises(Killed):
            checkpoints.save(2, towers, {"epoch": 2}, best=True)
    state = checkpoints.load_trainer(towers)
    assert state["epoch"] in (1, 2)
    assert checkpoints.path("best").name == f"epoch-{state['epoch']:04d}"
    checkpoints.load_best()
    checkpoints.save(2, towers, {"epoch": 2}, best=True)  # and the run goes on over what was left lying
    assert checkpoints.load_trainer(towers) == {"epoch": 2}


def test_damage_is_one_clear_error(tmp_path, towers):
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(ValueError, match="expected a checkpoint, got none"):
        checkpoints.path("last")
    checkpoints.save(1, towers, {"epoch": 1}, best=True)
    trainer = checkpoints.path("last") / "trainer.pt"
    whole = trainer.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        trainer.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"trainer\.pt: expected the trainer's state"):
            checkpoints.load_trainer(towers)
    model = checkpoints.path("last") / "model.safetensors"
    model.write_bytes(model.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        checkpoints.load_trainer(towers)
    (checkpoints.folder / "index.json").write_text("{}")
    with pytest.raises(ValueError, match="expected the names of the last and best checkpoint"):
        checkpoints.path("last")


def test_another_architecture(tmp_path, towers):
    Checkpoints(tmp_path).save(1, ClipTowers.from_open_clip("reid-tiny-vit"), {"epoch": 1}, best=True)
    with pytest.raises(ValueError, match="ViT"):
        Checkpoints(tmp_path).load_trainer(towers)


def test_nothing_unsafe_is_loaded(tmp_path, towers):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, towers, {"epoch": 1}, best=True)
    torch.save({"x": Checkpoints(tmp_path)}, checkpoints.path("last") / "trainer.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoints.load_trainer(towers)


def test_failed_write_leaves_the_old_json(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}
