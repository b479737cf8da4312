"""Every reader and writer explains a name that no file can have."""

import pytest
import torch
from torch import nn

from clipreid_kit import data as kit
from clipreid_kit import evaluate_reid
from clipreid_kit.clip import (
    ClipTowers,
    TrainingCheckpoints,
    load_towers,
    load_weights,
    save_towers,
    warm_start,
)
from clipreid_kit.data import ImageRecord
from clipreid_kit.viz import cmc_figure, save_figure

RECORDS = [ImageRecord("a.jpg", 1, caption="a coat")]
OPTIONS = {"read_cuhk03": {"boxes": "labeled"}, "read_msmt17": {"merge_val": True}}
SUFFIXES = {"read_table": (".csv", ".json", ".jsonl", ".parquet"), "read_csv": (".csv",)}

READERS = {
    f"{name}{suffix}": (name, suffix)
    for name in kit.__all__
    if name.startswith("read_")
    for suffix in SUFFIXES.get(name, ("", ".zip"))
}


def result():
    rows = torch.eye(2)
    return evaluate_reid(rows, rows, query_ids=[0, 1], gallery_ids=[0, 1])


OTHERS = {
    "splits": lambda name: kit.read_folder(name, splits=("train",)),
    "pattern": lambda name: kit.read_folder(name, pattern="{identity}/*.jpg"),
    "find_split_folders": lambda name: kit.find_split_folders(name, ("train",)),
    "load_image": kit.load_image,
    "check_files": lambda name: kit.check_files([ImageRecord(name, 1)]),
    "check_files zip": lambda name: kit.check_files([ImageRecord(f"{name}.zip::a", 1)]),
    "validate": lambda name: kit.validate_records([ImageRecord(name, 1)]),
    "PromptTable": kit.PromptTable.read,
    "load_towers": load_towers,
    "from_open_clip": lambda name: ClipTowers.from_open_clip(f"{name}.pt"),
    "load_weights": lambda name: load_weights(nn.Linear(1, 1), f"{name}.safetensors"),
    "warm_start": lambda name: warm_start(nn.Linear(1, 1), name),
    "checkpoints": lambda name: TrainingCheckpoints(name).state(),
    "write_csv": lambda name: kit.write_csv(RECORDS, f"{name}.csv"),
    "write_table": lambda name: kit.write_table(RECORDS, f"{name}.jsonl"),
    "write_annotations": lambda name: kit.write_annotations(RECORDS, f"{name}.json"),
    "PromptTable.write": lambda name: kit.PromptTable({"1": "a coat"}).write(name),
    "save": lambda name: TrainingCheckpoints(name).save(1, nn.Linear(1, 1), {}, best=True),
    "save_figure": lambda name: save_figure(cmc_figure({"a": [0.5]}), f"{name}.png"),
    "result": lambda name: result().write_csv(name),
}


@pytest.fixture(params=["n" * 300, "a\0b"], ids=["too long", "null"])
def name(request, tmp_path):
    return f"{tmp_path}/{request.param}"


@pytest.mark.parametrize("reader", READERS)
def test_readers(name, reader):
    function, suffix = READERS[reader]
    if suffix == ".parquet":
        pytest.importorskip("pyarrow")

    with pytest.raises(ValueError, match=r"[.)]$") as caught:
        getattr(kit, function)(name + suffix, **OPTIONS.get(function, {}))
    assert str(caught.value) != "embedded null byte"


@pytest.mark.parametrize("call", OTHERS)
def test_other_readers_and_writers(name, call):
    with pytest.raises(ValueError, match=r"[.)]$") as caught:
        OTHERS[call](name)
    assert str(caught.value) != "embedded null byte"


def test_towers_are_not_saved(name):
    towers = ClipTowers.from_open_clip("reid-tiny-resnet", image_size=(64, 32))
    with pytest.raises(ValueError, match=r"^There can be no file at '.*'"):
        save_towers(towers, name)
