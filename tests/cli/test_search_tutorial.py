"""The commands of the page "Search your photos" do what it says, in its order."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
from fastapi.testclient import TestClient
from PIL import Image

from clipreid_kit.cli import serve as serve_module
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


def first_hit(app):
    """The path of the image that the served page finds for the last one of the index."""
    with TestClient(app, base_url="http://127.0.0.1") as client:
        key = client.get("/api/info").json()["samples"][-1]
        answer = client.post("/api/search", json={"query": {"key": key}, "k": 1}).json()
        return answer["answers"][0]["hits"][0]["path"]


def test_commands_of_the_page(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    found = []
    monkeypatch.setattr(serve_module, "_run", lambda app, _: found.append(first_hit(app)))
    write_photos(tmp_path / "photos")
    save_towers(ClipTowers.from_open_clip("reid-tiny-vit", image_size=(16, 16)), "model")

    lines = [line for block in SHELL.findall(PAGE.read_text()) for line in block.splitlines()]
    assert len(lines) == 7
    outputs = []
    for line in lines:
        program, *arguments = shlex.split(line.replace("ViT-B-16:openai", "model"))
        assert program == "clipreid"
        if arguments[:2] == ["index", "add"]:
            shutil.copytree("photos/gallery/0020", "photos/gallery/0021")
        if arguments[0] == "serve":
            arguments += ["--port", "0"]
        assert main(arguments) == 0, capsys.readouterr().err
        outputs.append(capsys.readouterr().out)

    assert outputs[0] == "gallery.index: 6 images, 128 dimensions\n"
    assert outputs[1].splitlines()[0].startswith("  1  1.0000  query/0019  /")
    assert '"query": "a red coat"' in outputs[2]
    assert (
        outputs[3] == "gallery.index: 1 added, with keys 6 to 6; 6 were there already; 7 in all\n"
    )
    assert outputs[4] == "gallery.index: 2 removed; 5 in all\n"
    assert len(GalleryIndex.open("gallery.index")) == 5
    assert outputs[6].startswith("gallery.index: http://127.0.0.1:")
    assert [Path(path).parts[-2] for path in found] == ["0020"]
