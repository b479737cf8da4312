"""The commands of the page "Search your photos" do what it says, in its order."""

import re
import shlex
from pathlib import Path

import numpy as np
from PIL import Image

from clipreid_kit.cli.main import main
from clipreid_kit.clip import ClipTowers, save_towers
from clipreid_kit.retrieval import GalleryIndex

PAGE = Path(__file__).parents[2] / "docs" / "tutorials" / "search_your_photos.md"
SHELL = re.compile(r"^```bash\n(.*?)^```", re.MULTILINE | re.DOTALL)


def write_photos(folder):
    rng = np.random.default_rng(0)
    names = [f"query/0019/query_c{n}_0.png" for n in (1, 2)]
    names += [f"gallery/00{n}/gallery_c1_0.png" for n in (19, 20)]
    for name in [*names, *(f"train/0003/train_c1_{n}.png" for n in range(2))]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(folder / name)


def test_commands_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_photos(tmp_path / "photos")
    save_towers(ClipTowers.from_open_clip("reid-tiny-vit", image_size=(16, 16)), "model")

    lines = [line for block in SHELL.findall(PAGE.read_text()) for line in block.splitlines()]
    assert len(lines) == 6
    outputs = []
    for line in lines:
        program, *arguments = shlex.split(line.replace("ViT-B-16:openai", "model"))
        assert program == "clipreid"
        assert main(arguments) == 0, capsys.readouterr().err
        outputs.append(capsys.readouterr().out)

    assert outputs[0] == "gallery.index: 6 images, 128 dimensions\n"
    assert outputs[1].splitlines()[0].startswith("  1  1.0000  query/0019  /")
    assert '"query": "a red coat"' in outputs[2]
    assert outputs[3] == "gallery.index: 1 added, with keys 6 to 6; 7 in all\n"
    assert outputs[4] == "gallery.index: 2 removed; 5 in all\n"
    assert len(GalleryIndex.open("gallery.index")) == 5
