import errno
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from clipreid_kit.clip import (
    ClipBaseline,
    ClipTowers,
    TrainingCheckpoints,
    freeze,
    load_towers,
    load_weights,
    read_card,
    save_towers,
    warm_start,
)

SIZE = (32, 32)


def small(name="reid-tiny-resnet", size=SIZE, seed=0):
    return ClipTowers.from_open_clip(name, image_size=size, seed=seed)


def method(identities=4, **options):
    return ClipBaseline(small(**options), identities)


def moved(module):
    """Another state, as after a step."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5)
    return module


def same(one, other):
    one, other = one.state_dict(), other.state_dict()
    return one.keys() == other.keys() and all(
        torch.equal(value, other[name]) for name, value in one.items()
    )


@pytest.fixture
def checkpoints(tmp_path):
    return TrainingCheckpoints(tmp_path / "run" / "checkpoints")


def copied(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def unchanged(module, weights):
    return all(torch.equal(value, weights[name]) for name, value in module.state_dict().items())


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


def test_keeps_the_last_and_the_best_only(checkpoints):
    layer = nn.Linear(2, 2)
    assert not checkpoints.exists()
    for epoch, best in [
        (1, False),
        (2, True),
        (3, False),
        (4, False),
    ]:  # the first is the best so far, whatever is said
        path = checkpoints.save(epoch, layer, {"epoch": epoch}, best=best)
        assert path == checkpoints.path("last")
        assert checkpoints.path("best").name == f"epoch-{min(epoch, 2):04d}"
    assert names(checkpoints) == ["epoch-0002", "epoch-0004", "index.json"]
    assert checkpoints.exists()
    assert (checkpoints.state(), checkpoints.state("best")) == ({"epoch": 4}, {"epoch": 2})


def test_nothing_of_others_is_deleted(checkpoints):
    checkpoints.folder.mkdir(parents=True)
    (checkpoints.folder / "my notes").mkdir()
    (checkpoints.folder / "epoch-plot.png").write_bytes(b"")
    for epoch in (1, 2, 3):
        checkpoints.save(epoch, nn.Linear(2, 2), {}, best=True)
    assert names(checkpoints) == ["epoch-0003", "epoch-plot.png", "index.json", "my notes"]


def test_a_method_comes_back_bit_for_bit(checkpoints):
    one = moved(method())
    one.identity_branch.neck.norm.running_mean.normal_()
    optimizer = torch.optim.AdamW(one.parameters())
    one(torch.randn(4, 3, *SIZE), torch.tensor([0, 0, 1, 1])).loss.backward()
    optimizer.step()
    state = {
        "epoch": 1,
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "history": [{"loss": 0.5}],
    }
    checkpoints.save(1, one, state, best=True, card={"image_spec": {"fit": "pad"}})
    assert {path.name for path in checkpoints.path("last").iterdir()} == {
        *("model.safetensors", "card.json", "heads.safetensors", "trainer.pt")
    }
    other = method(seed=3)
    report = checkpoints.load("last", other)
    assert set(report.loaded) == set(one.state_dict())
    assert same(one, other)
    back = checkpoints.state()
    assert back["history"] == state["history"]
    assert torch.equal(back["rng"], state["rng"])
    torch.optim.AdamW(other.parameters()).load_state_dict(back["optimizer"])
    card = json.loads((checkpoints.path("last") / "card.json").read_text())
    assert card["extra"] == {"epoch": 1, "image_spec": {"fit": "pad"}}
    assert same(load_towers(checkpoints.path("best")), one.towers)


def test_modules_of_every_kind(checkpoints):
    tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    tied[1].weight = tied[0].weight  # one tensor under two names
    for module, other in [
        (moved(small()), small()),
        (tied, nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))),
        (
            nn.ModuleDict({"towers": nn.Linear(2, 2)}),
            nn.ModuleDict({"towers": nn.Linear(2, 2)}),
        ),  # of another kind
    ]:
        checkpoints.save(1, module, {}, best=True)
        checkpoints.load("best", other)
        assert same(module, other)
    frozen = small()
    freeze(frozen)
    checkpoints.save(1, frozen, {}, best=True)  # towers alone are kept, whether they train or not
    assert same(load_towers(checkpoints.path("best")), frozen)


def test_frozen_towers_are_left_out(checkpoints):
    one, other = moved(method()), method()
    for both in (one, other):
        freeze(both.towers)
    before = small()
    checkpoints.save(1, one, {}, best=True)
    assert not (checkpoints.path("last") / "model.safetensors").exists()
    checkpoints.load("last", other)
    assert torch.equal(
        other.identity_branch.classifier.weight, one.identity_branch.classifier.weight
    )
    assert same(other.towers, before)
    with pytest.raises(
        ValueError, match=r"model\.safetensors in .*, for towers that train, got none"
    ):
        checkpoints.load("last", method())


def test_a_grid_that_could_be_square_is_told_by_the_card(checkpoints):
    wide = (48, 192)  # 4 x 16 patches, as many as 8 x 8
    one = small("reid-tiny-vit", size=wide)
    checkpoints.save(1, one, {}, best=True)
    other = small("reid-tiny-vit", size=wide, seed=1)
    checkpoints.load("last", other)
    assert same(one, other)
    report = warm_start(small("reid-tiny-vit", size=(96, 96), seed=1), checkpoints.folder)
    assert report.resized == ("model.visual.positional_embedding",)


class Killed(BaseException):
    pass


def stopped_at(moment, patch, error):
    """From the ``moment``-th operation on the disk on, none gets through; what was not flushed is half there."""
    steps = 0

    def counted(original, instead=lambda *_: None):
        def step(*arguments, **options):
            nonlocal steps
            steps += 1
            if steps >= moment:
                instead(*arguments)
                raise error
            return original(*arguments, **options)

        return step

    patch.setattr(os, "fsync", counted(os.fsync, halve))
    for name in ("replace", "rename", "mkdir"):
        patch.setattr(os, name, counted(getattr(os, name)))
    patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
    return lambda: steps


def halve(descriptor):
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)


FULL = OSError(errno.ENOSPC, "No space left on device")
CASES = [
    (Killed(), True, True),
    (Killed(), True, False),
    (Killed(), False, False),
    (FULL, True, False),
]
CASES += [(FULL, False, False)]


@pytest.mark.parametrize(("error", "best", "with_towers"), CASES, ids=lambda value: str(value)[:9])
def test_whatever_stops_a_save_leaves_checkpoints_whole(tmp_path, error, best, with_towers):
    layer, fresh = (method(seed=seed) if with_towers else nn.Linear(9, 9) for seed in (0, 1))
    whole = 0
    weights = {1: copied(layer), 2: copied(moved(layer))}
    for moment in range(1, 60):
        checkpoints = TrainingCheckpoints(tmp_path / str(moment))
        layer.load_state_dict(weights[1])
        checkpoints.save(1, layer, {"epoch": 1}, best=True)
        layer.load_state_dict(weights[2])
        with pytest.MonkeyPatch.context() as patch:
            count = stopped_at(moment, patch, error)
            try:
                checkpoints.save(2, layer, {"epoch": 2}, best=best)
            except (Killed, OSError):
                pass
            else:
                whole += 1
                if count() < moment:  # nothing was in its way
                    break
        for which in ("last", "best"):
            epoch = checkpoints.state(which)["epoch"]
            assert epoch == int(checkpoints.path(which).name[-4:])
            checkpoints.load(which, fresh)
            assert unchanged(fresh, weights[epoch])
        if not best:
            assert checkpoints.state("best")["epoch"] == 1
        elif checkpoints.state("last")["epoch"] == 2:
            assert checkpoints.state("best")["epoch"] == 2
        checkpoints.save(
            2, layer, {"epoch": 2}, best=best
        )  # and the run goes on over what was left lying
        assert checkpoints.state()["epoch"] == 2
        assert len(names(checkpoints)) == (2 if best else 3)
    assert whole
    assert moment > 8


def test_the_same_epoch_again_never_touches_what_the_index_names(checkpoints, monkeypatch):
    checkpoints.save(1, nn.Linear(2, 2), {"try": 1}, best=True)
    removed = []
    monkeypatch.setattr(
        shutil, "rmtree", lambda path, **_: removed.append((path.name, checkpoints.state()["try"]))
    )
    checkpoints.save(1, nn.Linear(2, 2), {"try": 2}, best=True)
    assert ("epoch-0001", 1) not in removed
    monkeypatch.undo()
    assert checkpoints.state() == {"try": 2}
    checkpoints.save(1, nn.Linear(2, 2), {"try": 3}, best=False)
    assert (checkpoints.state(), checkpoints.state("best")) == ({"try": 3}, {"try": 2})
    assert len(names(checkpoints)) == 3


SAVES = """
import sys
from torch import nn
from clipreid_kit.clip import TrainingCheckpoints
checkpoints = TrainingCheckpoints(sys.argv[1])
for epoch in range(1, 100000):
    layer = nn.Linear(300, 300)
    nn.init.constant_(layer.weight, epoch)
    checkpoints.save(epoch, layer, {"epoch": epoch}, best=epoch % 3 == 0)
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="no SIGKILL")
def test_a_real_kill(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", SAVES, str(tmp_path)])
    while not checkpoints.exists():
        time.sleep(0.01)
        assert process.poll() is None
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    layer = nn.Linear(300, 300)
    for which in ("last", "best"):
        checkpoints.load(which, layer)
        assert (layer.weight == checkpoints.state(which)["epoch"]).all()


def test_damage_is_one_clear_error(checkpoints):
    layer = method()
    with pytest.raises(ValueError, match=r"a checkpoint in .*, got none\. No epoch was completed"):
        checkpoints.path("last")
    with pytest.raises(ValueError, match="a checkpoint in"):
        checkpoints.load("best", layer)
    checkpoints.save(1, layer, {"epoch": 1, "rows": torch.arange(1000)}, best=True)
    file = checkpoints.path("last") / "trainer.pt"
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"not a checkpoint"):
        file.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"the state of a training in .*trainer\.pt"):
            checkpoints.state()
    file.unlink()
    with pytest.raises(
        ValueError, match=r"trainer\.pt, got a file that cannot be read \(FileNotFoundError\)"
    ):
        checkpoints.state()
    before = copied(moved(layer))
    for name in ("heads.safetensors", "model.safetensors"):
        file = checkpoints.path("last") / name
        whole = file.read_bytes()
        file.write_bytes(whole[:1000])
        with pytest.raises(ValueError, match=name):
            checkpoints.load("last", layer)
        file.unlink()
        with pytest.raises(ValueError, match=r"missing|for towers that train"):
            checkpoints.load("last", layer)
        file.write_bytes(whole)
    assert unchanged(layer, before)  # nothing of it was loaded
    for text in ("{}", "[]", "{", '{"last": "epoch-0001"}'):
        (checkpoints.folder / "index.json").write_text(text)
        with pytest.raises(ValueError, match="the names of the last and best checkpoint"):
            checkpoints.path("last")


def test_another_method_is_refused_whole(checkpoints):
    checkpoints.save(1, method(name="reid-tiny-vit", size=(64, 64)), {}, best=True)
    for other in (method(), small(), nn.Linear(2, 2)):
        before = copied(other)
        with pytest.raises(ValueError, match="expected weights of"):
            checkpoints.load("last", other)
        assert unchanged(other, before)


class Anything:
    pass


def test_nothing_but_data_is_saved_or_loaded(checkpoints):
    layer = nn.Linear(2, 2)
    checkpoints.save(1, layer, {"epoch": 1}, best=True)
    with pytest.raises(ValueError, match=r"a state of plain data, got .*Anything"):
        checkpoints.save(2, layer, {"epoch": 2, "x": Anything()}, best=True)
    with pytest.raises(ValueError, match="extra that JSON can hold"):
        checkpoints.save(2, small(), {}, best=True, card={"x": Anything()})
    assert checkpoints.state() == {"epoch": 1}
    assert names(checkpoints) == ["epoch-0001", "index.json"]
    torch.save({"x": Anything()}, checkpoints.path("last") / "trainer.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        checkpoints.state()


def test_warm_start_takes_what_fits(checkpoints, tmp_path):
    one = moved(method(identities=9))
    checkpoints.save(1, one, {}, best=True)
    checkpoints.save(2, moved(method(identities=9)), {}, best=False)
    save_towers(one.towers, tmp_path / "towers")
    places = [
        checkpoints.folder,
        checkpoints.folder.parent,
        checkpoints.path("best"),
        tmp_path / "towers",
    ]
    for source in places:
        other = method(identities=4)
        classifier = other.identity_branch.classifier.weight.clone()
        report = warm_start(other, source)
        assert same(other.towers, one.towers)
        assert torch.equal(other.identity_branch.classifier.weight, classifier)
        if source == places[-1]:
            assert "identity_branch.classifier.weight" in report.missing
        else:
            assert report.mismatched == (("identity_branch.classifier.weight", (9, 128), (4, 128)),)
            assert torch.equal(
                other.identity_branch.neck.norm.weight, one.identity_branch.neck.norm.weight
            )
            assert "identity_branch.neck.norm.weight" in report.loaded
    alone = small()
    report = warm_start(alone, checkpoints.folder)
    assert same(alone, one.towers)
    assert (report.missing, report.unexpected, report.mismatched) == ((), (), ())
    larger = ClipBaseline(small("reid-tiny-vit", size=(64, 32)), 4)
    checkpoints.save(3, ClipBaseline(small("reid-tiny-vit", size=(48, 24)), 4), {}, best=True)
    assert warm_start(larger, checkpoints.folder).resized == (
        "towers.model.visual.positional_embedding",
    )


def test_cards_are_read_from_wherever_warm_start_reads(checkpoints, tmp_path):
    kept = {"identities": ["rex", "tom"]}
    checkpoints.save(1, moved(method()), {}, best=True, card=kept)
    for source in (checkpoints.folder, checkpoints.folder.parent, checkpoints.path("best")):
        assert read_card(source) == {"epoch": 1, **kept}
    assert read_card(tmp_path) == {}  # a folder with no towers in it
    with pytest.raises(ValueError, match="read_card: expected a training or a checkpoint, got"):
        read_card(tmp_path / "nothing")
    for damaged in ("{", "[]", '{"extra": 3}'):
        (checkpoints.path("best") / "card.json").write_text(damaged)
        with pytest.raises(
            ValueError, match=r"read_card: expected a card in .*card\.json, got other text"
        ):
            read_card(checkpoints.folder)


def test_warm_start_without_towers(checkpoints):
    one, other = (
        nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 9)),
        nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 4)),
    )
    checkpoints.save(1, one, {}, best=True)
    report = warm_start(other, checkpoints.folder)
    assert report.loaded == ("0.weight", "0.bias")
    assert torch.equal(other[0].weight, one[0].weight)
    (checkpoints.folder / "card.json").write_text("not JSON")
    with pytest.raises(
        ValueError, match=r"warm_start: expected a training or a checkpoint with model\.safetensors"
    ):
        warm_start(other, checkpoints.folder.parent.parent)


def test_the_report_is_that_of_load_weights(checkpoints):
    one = method(identities=9)
    checkpoints.save(1, one, {}, best=True)
    by_hand = load_weights(method(), one.state_dict(), strict=False)
    report = warm_start(method(), checkpoints.folder)
    assert set(report.loaded) == set(by_hand.loaded)
    assert report.mismatched == by_hand.mismatched
    assert report.summary().startswith(f"{len(report.loaded)} tensors loaded")


@pytest.mark.unhooked
def test_errors(checkpoints):
    with pytest.raises(ValueError, match="which to be one of last, best, got 'first'"):
        checkpoints.path("first")
    with pytest.raises(ValueError, match="epoch as a whole number >= 0, got -1"):
        checkpoints.save(-1, nn.Linear(2, 2), {}, best=True)
