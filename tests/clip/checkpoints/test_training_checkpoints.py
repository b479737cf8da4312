import errno
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import time

import pytest
import torch
from tiny_towers import tiny_towers
from torch import nn

from clipreid_kit.clip import (
    ClipBaseline,
    TrainingCheckpoints,
    freeze,
    load_towers,
)
from clipreid_kit.clip.checkpoints import training_checkpoints

SIZE = (32, 32)


class Method(nn.Module):
    """Towers with a head beside them."""

    def __init__(self, towers):
        super().__init__()
        self.towers = towers
        self.neck = nn.BatchNorm1d(8)
        self.classifier = nn.Linear(8, 4, bias=False)


def make_towers(name="reid-tiny-resnet", size=SIZE, seed=0):
    return tiny_towers(name, image_size=size, seed=seed)


def make_method(**options):
    return Method(make_towers(**options))


def changed(module):
    """The module with other values, as after a step."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5)
    return module


def copy_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equals(module, weights):
    state = module.state_dict()
    return state.keys() == weights.keys() and all(
        torch.equal(tensor, weights[name]) for name, tensor in state.items()
    )


def names(checkpoints):
    return sorted(path.name for path in checkpoints.folder.iterdir())


@pytest.fixture
def checkpoints(tmp_path):
    return TrainingCheckpoints(tmp_path / "run" / "checkpoints")


class TestLastAndBest:
    @pytest.mark.parametrize(
        ("best_epochs", "best"),
        [((), 1), ((2,), 2), ((2, 4), 4)],  # the first one is the best until another is
    )
    def test_only_these_two_are_kept(self, checkpoints, best_epochs, best):
        assert not checkpoints.exists()
        for epoch in (1, 2, 3, 4):
            path = checkpoints.save(
                epoch, nn.Linear(2, 2), {"epoch": epoch}, best=epoch in best_epochs
            )
            assert path == checkpoints.path("last")

        assert checkpoints.exists()
        assert checkpoints.state() == {"epoch": 4}
        assert checkpoints.state("best") == {"epoch": best}
        assert names(checkpoints) == sorted({f"epoch-{best:04d}", "epoch-0004", "index.json"})

    def test_other_files_are_not_deleted(self, checkpoints):
        checkpoints.folder.mkdir(parents=True)
        (checkpoints.folder / "my notes").mkdir()
        (checkpoints.folder / "epoch-plot.png").write_bytes(b"")

        for epoch in (1, 2, 3):
            checkpoints.save(epoch, nn.Linear(2, 2), {}, best=True)

        assert names(checkpoints) == ["epoch-0003", "epoch-plot.png", "index.json", "my notes"]

    def test_folders_of_others_are_not_deleted(self, checkpoints):
        checkpoints.save(1, nn.Linear(2, 2), {}, best=True)
        first = checkpoints.path("last")
        shutil.copytree(first, checkpoints.folder / "epoch-0001-backup")
        shutil.copytree(first, checkpoints.folder / "epoch-0001-2")  # named as one of our own
        (checkpoints.folder / "epoch-notes").mkdir()
        (checkpoints.folder / "epoch-0003").mkdir()
        (checkpoints.folder / "epoch-0003" / "mine.txt").touch()
        (checkpoints.folder / "epoch-0009").symlink_to(first)

        for epoch in (2, 3):
            checkpoints.save(epoch, nn.Linear(2, 2), {}, best=True)

        assert names(checkpoints) == [
            "epoch-0001-2",
            "epoch-0001-backup",
            "epoch-0003",
            "epoch-0003-1",
            "epoch-0009",
            "epoch-notes",
            "index.json",
        ]
        assert (checkpoints.folder / "epoch-0001-backup" / "trainer.pt").exists()

    def test_a_file_that_was_added_to_a_checkpoint_is_not_deleted(self, checkpoints):
        path = checkpoints.save(1, nn.Linear(2, 2), {}, best=True)
        (path / "notes.txt").write_text("the best one")
        checkpoints.save(2, nn.Linear(2, 2), {}, best=True)
        assert [file.name for file in path.iterdir()] == ["notes.txt"]

    def test_what_a_killed_run_left_is_deleted(self, checkpoints):
        for epoch in (1, 2):
            checkpoints.save(epoch, nn.Linear(2, 2), {}, best=True)
        index = (checkpoints.folder / "index.json").read_bytes()
        checkpoints.save(3, nn.Linear(2, 2), {}, best=False)
        (checkpoints.folder / "index.json").write_bytes(index)  # as if it had not been written
        temporary = checkpoints.folder / f".epoch-0003.{'0' * 16}.tmp"
        temporary.mkdir()
        (temporary / "trainer.pt").touch()

        checkpoints.save(4, nn.Linear(2, 2), {}, best=True)

        assert names(checkpoints) == ["epoch-0004", "index.json"]

    def test_the_folder_is_shown(self):
        assert repr(TrainingCheckpoints("run/checkpoints")) == (
            "TrainingCheckpoints('run/checkpoints')"
        )


class TestRoundTrip:
    def test_of_a_method_after_a_step(self, checkpoints):
        method = ClipBaseline(make_towers(), 4)
        optimizer = torch.optim.AdamW(method.parameters())
        method(torch.randn(4, 3, *SIZE), torch.tensor([0, 0, 1, 1])).loss.backward()
        optimizer.step()
        checkpoints.save(1, method, {"optimizer": optimizer.state_dict()}, best=True)

        twin = ClipBaseline(make_towers(seed=3), 4)
        report = checkpoints.load("last", twin)

        assert set(report.loaded) == set(method.state_dict())
        assert equals(twin, copy_of(method))
        state = checkpoints.state()["optimizer"]
        torch.optim.AdamW(twin.parameters()).load_state_dict(state)

    def test_of_the_state(self, checkpoints):
        state = {"epoch": 1, "rng": torch.get_rng_state(), "history": [{"loss": 0.5}]}
        checkpoints.save(1, nn.Linear(2, 2), state, best=True)

        found = checkpoints.state()

        assert found.keys() == state.keys()
        assert found["history"] == state["history"]
        assert torch.equal(found["rng"], state["rng"])

    def test_of_the_towers_as_save_towers_writes_them(self, checkpoints):
        method = changed(make_method())
        card = {"image_spec": {"fit": "pad"}}
        checkpoints.save(1, method, {}, best=True, card=card)

        folder = checkpoints.path("last")
        assert {path.name for path in folder.iterdir()} == {
            "model.safetensors",
            "card.json",
            "heads.safetensors",
            "trainer.pt",
        }
        assert equals(load_towers(folder), copy_of(method.towers))
        saved_card = json.loads((folder / "card.json").read_text())
        assert saved_card["extra"] == {"epoch": 1, **card}

    def test_of_towers_alone(self, checkpoints):
        towers = changed(make_towers())
        checkpoints.save(1, towers, {}, best=True)
        twin = make_towers()
        checkpoints.load("best", twin)
        assert equals(twin, copy_of(towers))

    def test_of_towers_alone_even_if_frozen(self, checkpoints):
        towers = changed(make_towers())
        freeze(towers)
        checkpoints.save(1, towers, {}, best=True)
        assert equals(load_towers(checkpoints.path("best")), copy_of(towers))

    def test_of_tied_tensors(self, checkpoints):
        tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        tied[1].weight = tied[0].weight  # one tensor under two names
        checkpoints.save(1, tied, {}, best=True)
        twin = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
        checkpoints.load("best", twin)
        assert equals(twin, copy_of(tied))

    def test_of_another_module_under_the_name_towers(self, checkpoints):
        module = nn.ModuleDict({"towers": nn.Linear(2, 2)})
        checkpoints.save(1, module, {}, best=True)
        twin = nn.ModuleDict({"towers": nn.Linear(2, 2)})
        checkpoints.load("best", twin)
        assert equals(twin, copy_of(module))


class TestFrozenTowers:
    @pytest.fixture
    def method(self, checkpoints):
        """A method that was saved while its towers were frozen."""
        method = changed(make_method())
        freeze(method.towers)
        checkpoints.save(1, method, {}, best=True)
        return method

    def test_are_not_saved(self, checkpoints, method):
        assert not (checkpoints.path("last") / "model.safetensors").exists()

    def test_keep_their_values_at_loading(self, checkpoints, method):
        twin = make_method()
        freeze(twin.towers)
        before = copy_of(twin.towers)

        checkpoints.load("last", twin)

        assert torch.equal(twin.classifier.weight, method.classifier.weight)
        assert equals(twin.towers, before)

    def test_do_not_load_into_towers_that_train(self, checkpoints, method):
        with pytest.raises(
            ValueError, match=r"The towers train, but .* has no model\.safetensors\. It was saved"
        ):
            checkpoints.load("last", make_method())


def test_the_card_tells_the_grid_of_a_table_that_could_be_square(checkpoints):
    wide = (48, 192)  # 4 x 16 patches, as many as 8 x 8
    towers = make_towers("reid-tiny-vit", size=wide)
    checkpoints.save(1, towers, {}, best=True)
    twin = make_towers("reid-tiny-vit", size=wide, seed=1)
    checkpoints.load("last", twin)
    assert equals(twin, copy_of(towers))


class Killed(BaseException):
    pass


DISK_FULL = OSError(errno.ENOSPC, "No space left on device")


class FailingDisk:
    """From a certain operation on, every operation on the disk raises an error.

    A file that is being flushed at that moment is left half written.
    """

    def __init__(self, first_failure, error):
        self.first_failure = first_failure
        self.error = error
        self.num_operations = 0

    def install(self, patch):
        patch.setattr(os, "fsync", self.failing(os.fsync, before_failure=truncate_to_half))
        for name in ("replace", "rename", "mkdir", "rmdir", "unlink"):
            failing = self.failing(getattr(os, name))
            patch.setattr(os, name, failing)
            if sys.version_info < (3, 11):  # there, paths hold functions of their own
                patch.setattr(pathlib._NormalAccessor, name, staticmethod(failing))

    def failing(self, operation, before_failure=None):
        def call(*arguments, **options):
            self.num_operations += 1
            if self.num_operations < self.first_failure:
                return operation(*arguments, **options)

            if before_failure is not None:
                before_failure(*arguments)
            raise self.error

        return call

    @property
    def has_failed(self):
        return self.num_operations >= self.first_failure


def truncate_to_half(descriptor):
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode):
        os.ftruncate(descriptor, status.st_size // 2)


@pytest.mark.parametrize(
    ("error", "best", "with_towers"),
    [
        pytest.param(Killed(), True, True, marks=pytest.mark.slow),
        (Killed(), True, False),
        (Killed(), False, False),
        (DISK_FULL, True, False),
        (DISK_FULL, False, False),
    ],
    ids=["killed, best, towers", "killed, best", "killed", "disk full, best", "disk full"],
)
def test_an_interruption_at_any_operation_leaves_complete_checkpoints(
    tmp_path, error, best, with_towers
):
    module, twin = (make_method(seed=seed) if with_towers else nn.Linear(9, 9) for seed in (0, 1))
    weights = {1: copy_of(module), 2: copy_of(changed(module))}

    def save(checkpoints, epoch, best):
        module.load_state_dict(weights[epoch])
        checkpoints.save(epoch, module, {"epoch": epoch}, best=best)

    num_interrupted = 0
    for first_failure in range(1, 60):
        checkpoints = TrainingCheckpoints(tmp_path / str(first_failure))
        save(checkpoints, 1, best=True)

        disk = FailingDisk(first_failure, error)
        with pytest.MonkeyPatch.context() as patch:
            disk.install(patch)
            try:
                save(checkpoints, 2, best=best)
            except (Killed, OSError):
                num_interrupted += 1
        if not disk.has_failed:
            break

        # whatever the index names is complete
        for which in ("last", "best"):
            epoch = checkpoints.state(which)["epoch"]
            assert checkpoints.path(which).name == f"epoch-{epoch:04d}"
            checkpoints.load(which, twin)
            assert equals(twin, weights[epoch])

        # and the two names belong together
        best_epoch = checkpoints.state("last")["epoch"] if best else 1
        assert checkpoints.state("best")["epoch"] == best_epoch

        # the run continues over what the interruption left
        save(checkpoints, 2, best=best)
        assert checkpoints.state()["epoch"] == 2
        assert len(names(checkpoints)) == (2 if best else 3)

    assert not disk.has_failed
    assert first_failure > 8
    assert num_interrupted > 4


class TestTheSameEpochAgain:
    def test_never_deletes_what_the_index_names(self, checkpoints, monkeypatch):
        checkpoints.save(1, nn.Linear(2, 2), {"try": 1}, best=True)
        delete = training_checkpoints._delete_checkpoint
        deleted = []

        def recording_delete(path):
            if path.is_dir():
                assert path not in (checkpoints.path("last"), checkpoints.path("best"))
                deleted.append(path.name)
            delete(path)

        monkeypatch.setattr(training_checkpoints, "_delete_checkpoint", recording_delete)
        checkpoints.save(1, nn.Linear(2, 2), {"try": 2}, best=True)

        assert deleted == ["epoch-0001"]
        assert checkpoints.state() == {"try": 2}

    def test_keeps_the_best_of_that_epoch(self, checkpoints):
        checkpoints.save(1, nn.Linear(2, 2), {"try": 1}, best=True)
        checkpoints.save(1, nn.Linear(2, 2), {"try": 2}, best=False)
        assert checkpoints.state() == {"try": 2}
        assert checkpoints.state("best") == {"try": 1}
        assert len(names(checkpoints)) == 3


SAVE_FOREVER = """
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
def test_a_killed_process_leaves_complete_checkpoints(tmp_path):
    checkpoints = TrainingCheckpoints(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", SAVE_FOREVER, str(tmp_path)])
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


class TestDamage:
    @pytest.fixture
    def method(self):
        return make_method()

    @pytest.fixture
    def folder(self, checkpoints, method):
        """The folder of a checkpoint."""
        return checkpoints.save(1, method, {"epoch": 1, "rows": torch.arange(1000)}, best=True)

    def test_no_checkpoint(self, checkpoints, method):
        match = r"There is no checkpoint in .*; no epoch was completed"
        with pytest.raises(ValueError, match=match):
            checkpoints.path("last")
        with pytest.raises(ValueError, match=match):
            checkpoints.load("best", method)

    @pytest.mark.parametrize("damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b""])
    def test_a_truncated_state(self, checkpoints, folder, damage):
        file = folder / "trainer.pt"
        file.write_bytes(damage(file.read_bytes()))
        with pytest.raises(
            ValueError, match=r"The state of the training run in .*trainer\.pt cannot be read"
        ):
            checkpoints.state()

    def test_a_state_of_another_format(self, checkpoints, folder):
        (folder / "trainer.pt").write_bytes(b"not a checkpoint")
        with pytest.raises(ValueError, match=r"trainer\.pt cannot be read"):
            checkpoints.state()

    def test_a_missing_state(self, checkpoints, folder):
        (folder / "trainer.pt").unlink()
        with pytest.raises(ValueError, match=r"trainer\.pt cannot be read \(FileNotFoundError\)"):
            checkpoints.state()

    @pytest.mark.parametrize("name", ["heads.safetensors", "model.safetensors"])
    def test_truncated_weights_change_nothing(self, checkpoints, folder, method, name):
        before = copy_of(changed(method))
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[: len(content) // 2])
        with pytest.raises(ValueError, match=name):
            checkpoints.load("last", method)
        assert equals(method, before)

    @pytest.mark.parametrize(
        ("name", "match"),
        [
            ("heads.safetensors", r"missing: neck\.weight"),
            ("model.safetensors", r"The towers train, but"),
        ],
    )
    def test_missing_weights_change_nothing(self, checkpoints, folder, method, name, match):
        before = copy_of(changed(method))
        (folder / name).unlink()
        with pytest.raises(ValueError, match=match):
            checkpoints.load("last", method)
        assert equals(method, before)

    @pytest.mark.usefixtures("folder")
    @pytest.mark.parametrize("text", ["{}", "[]", "{", '{"last": "epoch-0001"}'])
    def test_a_damaged_index(self, checkpoints, text):
        (checkpoints.folder / "index.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"index\.json is damaged: it does not name the last and the best"
        ):
            checkpoints.path("last")

    @pytest.mark.usefixtures("folder")
    @pytest.mark.parametrize("name", ["../../other", "/etc", "epoch-0001/..", "notes", ""])
    def test_an_index_that_leads_outside(self, checkpoints, name):
        text = json.dumps({"last": name, "best": "epoch-0001"})
        (checkpoints.folder / "index.json").write_text(text)
        with pytest.raises(
            ValueError, match=r"index\.json names .*, which is no checkpoint of this"
        ):
            checkpoints.path("best")

    def test_a_state_of_a_later_epoch_than_its_folder(self, checkpoints, folder):
        torch.save({"epoch": 10**9}, folder / "trainer.pt")
        with pytest.raises(ValueError, match="is of epoch 1000000000; it was saved as that of 1"):
            checkpoints.state()

    def test_a_state_that_is_no_dictionary(self, checkpoints, folder):
        torch.save([1], folder / "trainer.pt")
        with pytest.raises(ValueError, match="it is a list, not a dictionary"):
            checkpoints.state()

    def test_no_weights_at_all(self, checkpoints):
        checkpoints.save(1, nn.Linear(2, 2), {}, best=True)
        (checkpoints.path("last") / "heads.safetensors").unlink()
        with pytest.raises(ValueError, match="There are no weights in"):
            checkpoints.load("last", nn.Linear(2, 2))


@pytest.mark.parametrize("make_other", [make_method, make_towers, lambda: nn.Linear(2, 2)])
def test_a_checkpoint_of_another_method_changes_nothing(checkpoints, make_other):
    checkpoints.save(1, make_method(name="reid-tiny-vit", size=(64, 64)), {}, best=True)
    other = make_other()
    before = copy_of(other)
    with pytest.raises(ValueError, match="expected weights of"):
        checkpoints.load("last", other)
    assert equals(other, before)


class NotData:
    pass


class TestOnlyData:
    @pytest.fixture
    def saved(self, checkpoints):
        checkpoints.save(1, nn.Linear(2, 2), {"epoch": 1}, best=True)
        return checkpoints

    def test_is_saved_in_the_state(self, saved):
        with pytest.raises(ValueError, match=r"a state of plain data, got .*NotData"):
            saved.save(2, nn.Linear(2, 2), {"epoch": 2, "x": NotData()}, best=True)
        assert saved.state() == {"epoch": 1}
        assert names(saved) == ["epoch-0001", "index.json"]

    def test_is_saved_in_the_card(self, saved):
        with pytest.raises(
            ValueError, match=r'`card` must be JSON-serialisable; `card\["x"\]` is a NotData\.'
        ):
            saved.save(2, make_towers(), {}, best=True, card={"x": NotData()})
        assert saved.state() == {"epoch": 1}
        assert names(saved) == ["epoch-0001", "index.json"]

    def test_is_loaded(self, saved):
        torch.save({"x": NotData()}, saved.path("last") / "trainer.pt")
        with pytest.raises(ValueError, match="cannot be read"):
            saved.state()


@pytest.mark.unhooked
def test_an_unknown_checkpoint(checkpoints):
    with pytest.raises(ValueError, match="which to be one of last, best, got 'first'"):
        checkpoints.path("first")


@pytest.mark.unhooked
@pytest.mark.parametrize("epoch", [-1, "1", None])
def test_an_invalid_epoch(checkpoints, epoch):
    with pytest.raises(ValueError, match=f"epoch as a whole number >= 0, got {epoch!r}"):
        checkpoints.save(epoch, nn.Linear(2, 2), {}, best=True)


def saved_in(folder, *epochs):
    """Checkpoints of a layer that changes with each epoch."""
    checkpoints = TrainingCheckpoints(folder)
    layer = nn.Linear(2, 2)
    for epoch in epochs:
        checkpoints.save(epoch, changed(layer), {"epoch": epoch}, best=epoch == epochs[0])
    return checkpoints


def test_the_state_of_another_epoch_is_refused(tmp_path):
    checkpoints = saved_in(tmp_path, 1, 2)
    shutil.copy(checkpoints.path("best") / "trainer.pt", checkpoints.path("last"))

    with pytest.raises(ValueError, match=r"epoch-0002.* was saved as that of epoch-0001\. One of"):
        checkpoints.state("last")


def test_the_state_of_another_run_is_refused(tmp_path):
    checkpoints = saved_in(tmp_path / "a", 1)
    other = saved_in(tmp_path / "b", 1)
    shutil.copy(other.path("last") / "trainer.pt", checkpoints.path("last"))

    with pytest.raises(ValueError, match=r"was saved with other weights\. One of the files was"):
        checkpoints.state("last")


@pytest.mark.parametrize("kept", [b"", b"clipreid_kit checkpoint epoch-0001"])
def test_states_of_earlier_versions_are_read(tmp_path, kept):
    checkpoints = saved_in(tmp_path, 1)
    path = checkpoints.path("last") / "trainer.pt"
    packed, _, _ = path.read_bytes().rpartition(b"clipreid_kit checkpoint ")
    path.write_bytes(packed[:-2] + len(kept).to_bytes(2, "little") + kept)

    assert checkpoints.state("last") == {"epoch": 1}


def folders(path):
    return sorted(folder.name for folder in path.iterdir() if folder.is_dir())


def saved(path, *epochs, best=(), keep=()):
    checkpoints = TrainingCheckpoints(path)
    method = nn.Linear(2, 2)
    for epoch in epochs:
        state = {"epoch": epoch}
        checkpoints.save(epoch, method, state, best=epoch in best, keep=epoch in keep)
    return checkpoints


def test_kept_checkpoints_stay_with_the_best_of_their_time(tmp_path):
    checkpoints = saved(tmp_path, 1, 2, 3, 4, 5, best=(1, 4), keep=(2, 5))

    assert folders(tmp_path) == ["epoch-0001", "epoch-0002", "epoch-0004", "epoch-0005"]
    assert json.loads((tmp_path / "index.json").read_text())["kept"] == {
        "epoch-0002": "epoch-0001",
        "epoch-0005": "epoch-0004",
    }
    assert checkpoints.path("best").name == "epoch-0004"


def test_rewind_makes_a_kept_checkpoint_the_last(tmp_path):
    checkpoints = saved(tmp_path, 1, 2, 3, 4, best=(1, 3), keep=(2, 4))
    checkpoints.rewind("epoch-0002")

    assert folders(tmp_path) == ["epoch-0001", "epoch-0002"]
    assert checkpoints.path("last").name == "epoch-0002"
    assert checkpoints.path("best").name == "epoch-0001"
    assert checkpoints.state() == {"epoch": 2}

    checkpoints.rewind("epoch-0002")  # where it is already
    saved(tmp_path, 3, keep=(3,))
    assert folders(tmp_path) == ["epoch-0001", "epoch-0002", "epoch-0003"]


def test_rewind_to_what_was_not_kept(tmp_path):
    checkpoints = saved(tmp_path, 1, 2, 3, keep=(1,))
    with pytest.raises(ValueError, match=r"no checkpoint 'epoch-0002' .* epoch-0001, and the last"):
        checkpoints.rewind("epoch-0002")


@pytest.mark.parametrize("kept", ["epoch-0001", {"../other": "epoch-0001"}])
def test_a_damaged_list_of_kept_checkpoints(tmp_path, kept):
    checkpoints = saved(tmp_path, 1)
    index = json.loads((tmp_path / "index.json").read_text())
    (tmp_path / "index.json").write_text(json.dumps({**index, "kept": kept}))

    with pytest.raises(ValueError, match=r"no mapping|no checkpoint of this folder"):
        checkpoints.rewind("epoch-0001x")
