"""Every door through which a file comes in: valid files, and the call that opens them."""

import contextlib
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import trees
from matlab_files import matlab_file, matlab_matrix
from PIL import Image
from safetensors.torch import save as save_safetensors

from clipreid_kit import ReidResult
from clipreid_kit.clip import load_weights, read_card, read_weights
from clipreid_kit.data import (
    ImageRecord,
    PromptTable,
    load_image,
    read_annotations,
    read_captioned_folder,
    read_csv,
    read_folder,
    read_mars,
    read_split,
    read_table,
    split_identities,
    write_split,
)
from clipreid_kit.data.fashion import (
    read_descriptions,
    read_image_paths,
    read_image_splits,
    read_texts,
)
from clipreid_kit.evaluate import main as evaluate
from examples.settings.recipe import load_recipe


class Door(NamedTuple):
    """One way in.

    Attributes:
        name: Name of the door.
        file: Name of the file that it opens.
        seeds: Valid files.
        open: Opens a file, and returns what compares equal for equal content.
        neutral: Rewrites of a valid file that leave its content equal.
    """

    name: str
    file: str
    seeds: Callable[[], list[bytes]]
    open: Callable
    neutral: tuple[Callable[[bytes], bytes], ...] = ()


class CommandError(ValueError):
    """What a command wrote before it exited with 1."""


# Valid files.


def pixels(seed=0, size=(9, 7), channels=3):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*size, channels), dtype=np.uint8).squeeze()


def encoded(file_format, *, mode="RGB", **options):
    stream = io.BytesIO()
    Image.fromarray(pixels()).convert(mode).save(stream, file_format, **options)
    return stream.getvalue()


def image_seeds():
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 72.5
    exif[0x010E] = "a description"
    return [
        encoded("PNG"),
        encoded("PNG", mode="P", transparency=3),
        encoded("PNG", mode="LA"),
        encoded("PNG", exif=exif),
        encoded("JPEG", exif=exif, xmp=b"<x:xmpmeta tiff:Orientation='6'/>"),
        encoded("JPEG", progressive=True),
        encoded("JPEG", mode="CMYK"),
        encoded("WEBP"),
        encoded("WEBP", lossless=True, exif=exif),
        encoded("BMP"),
        encoded("GIF"),
        encoded("TIFF", compression="tiff_lzw"),
        encoded("TIFF", exif=exif),
    ]


def packed(members, method=zipfile.ZIP_DEFLATED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compress_type=method)
    return stream.getvalue()


def zip_members():
    names = ("rex_c1_0.png", "rex_c2_1.png", "bo_c1_2.png")
    return {f"dogs/{name.split('_')[0]}/{name}": encoded("PNG") for name in names} | {
        "dogs/rex/rex_c1_0.txt": b"a brown dog\na dog that runs\n",
        "dogs/rex/rex_c2_1.txt": b"a brown dog on grass\n",
        "dogs/bo/bo_c1_2.txt": "ein weißer Hund\n".encode(),
    }


def zip_seeds():
    methods = (zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    return [packed(zip_members(), method) for method in methods]


def csv_seeds():
    return [
        b"path,identity,camera,split\na.jpg,rex,1,train\nb.jpg,bo,2,query\nc.jpg,rex,3,gallery\n",
        b'path,identity,caption\na.jpg,7,"a red coat, and a hat"\nb.jpg,8,"she said ""no"""\n',
        "path,identity,view,weather\nä.jpg,1,front,sun\nb.jpg,2,,rain\n".encode(),
    ]


def matlab_seeds():
    packed, plain = (matlab_matrix("q", [1, 3], packed=packed) for packed in (True, False))
    return [matlab_file(packed), matlab_file(plain)]


def open_mars(path):
    """A table of MARS, in its place among the others."""
    with tempfile.TemporaryDirectory() as folder:
        base = trees.mars(Path(folder))
        (base / "info" / path.name).write_bytes(path.read_bytes())
        records = read_mars(base, counts="ignore")
        return [(record.split, record.tracklet, record.frame) for record in records]


def json_rows():
    return [
        {"path": "a.jpg", "identity": 7, "camera": 1, "split": "train", "caption": "a coat"},
        {"path": "b.jpg", "identity": "7", "camera": "c1", "weather": 3.5, "ok": True},
        {"path": "c/d.jpg", "identity": 9, "camera": None},
    ]


def table_seeds():
    return [encode_json(json_rows()), encode_json(json_rows()[:1])]


def lines_seeds():
    return [b"".join(encode_json(row) + b"\n" for row in json_rows())]


def parquet_seeds():
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"path": ["a.jpg", "b.jpg"], "identity": [1, 2], "camera": [None, "c1"]})
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return [stream.getvalue()]


def arrow_seeds():
    import pyarrow as pa

    table = pa.table({"path": ["a.jpg", "b.jpg"], "identity": [1, 2], "image": [b"one", b"two"]})
    streams = io.BytesIO(), io.BytesIO()
    for stream, new in zip(streams, (pa.ipc.new_stream, pa.ipc.new_file), strict=True):
        with new(stream, table.schema) as writer:
            writer.write_table(table)
    return [stream.getvalue() for stream in streams]


def annotation_seeds():
    entries = [
        {"image_path": "a.jpg", "caption": "a red coat", "id": 3, "category": "coats"},
        {"image_path": "b/c.jpg", "caption": "ein Hut: »neu«", "id": "x", "size": [1, 2]},
    ]
    return [encode_json({"splits": {"train": entries, "test": entries[:1]}}), encode_json(entries)]


def split_seeds():
    records = [ImageRecord(f"{i}/{n}.png", f"id{i}") for i in range(4) for n in range(2)]
    manifest = split_identities(records, {"train": 0.5, "val": 0.5}, data="dogs", root=".")
    with tempfile.TemporaryDirectory() as folder:
        write_split(manifest, Path(folder, "a.json"))
        return [Path(folder, "a.json").read_bytes()]


def description_seeds():
    return [encode_json([{"item": "id_1", "color": "Red", "description": ["A coat.", "Warm."]}])]


def path_seeds():
    return [
        encode_json({"img/WOMEN/Dresses/id_1/01_1_front.jpg": {"item_id": "id_1", "split": "val"}})
    ]


def image_split_seeds():
    return [encode_json({"train": ["img/a.jpg", "img/b.jpg"], "val": ["img/c.jpg"]})]


def text_seeds():
    return [encode_json({"id_1": "a red coat", "id_2": "a blue hat"})]


def recipe_seeds():
    return [
        b"note: why\nstage: joint\n"
        b"data: {source: synthetic, num_identities: 500, views_per_camera: 2, cache: true}\n"
        b"model: {name: reid-tiny-resnet, channels_last: true}\n"
        b"augment: {pad: 6, color_jitter: 0.4, scale: [0.8, 1.2], fill: 128}\n"
        b"batch: {num_identities: 16, num_instances: 4, coverage: images}\n"
        b"loss: {supcon_image: 1.0, supcon_text: 1.0, temperature: 0.1}\n"
        b"optim: {epochs: 20, lr: 3.0e-3, weight_decay: 0.01, warmup_epochs: 2}\n",
        b"note: >\n  several\n  lines\nstage: zero_shot\ndata:\n  source: folder\n  root: /data\n"
        b"model:\n  name: ViT-B-16\n  image_size: [256, 128]\n",
    ]


def feature_seeds():
    rng = np.random.default_rng(0)
    arrays = {
        "query_embeddings": rng.standard_normal((4, 3)).astype(np.float32),
        "gallery_embeddings": rng.standard_normal((6, 3)).astype(np.float32),
        "query_ids": np.array([0, 1, 2, 0]),
        "gallery_ids": np.array([0, 0, 1, 1, 2, 3]),
        "query_cameras": np.array([1, 1, 1, 2]),
        "gallery_cameras": np.array([2, 3, 2, 3, 2, 1]),
    }
    names = {"embeddings": rng.standard_normal((6, 3)), "ids": np.array(list("aabbcc"))}
    found = []
    for content in (arrays, names):
        for save in (np.savez, np.savez_compressed):
            stream = io.BytesIO()
            save(stream, **content)
            found.append(stream.getvalue())
    return found


def layer():
    torch.manual_seed(0)
    return torch.nn.Linear(3, 2)


def safetensors_seeds():
    state = {name: tensor.contiguous() for name, tensor in layer().state_dict().items()}
    return [save_safetensors(state), save_safetensors(state, metadata={"format": "pt"})]


def checkpoint_seeds():
    state = layer().state_dict()
    found = []
    for content in (state, {"epoch": 3, "state_dict": state}):
        stream = io.BytesIO()
        torch.save(content, stream)
        found.append(stream.getvalue())
    return found


def card_seeds():
    card = {"name": "reid-tiny-vit", "extra": {"epoch": 3, "identities": ["rex", "bo"]}}
    return [encode_json(card)]


def result_seeds():
    values = ReidResult(
        average_precision=np.array([0.5, 1.0]),
        inverse_negative_penalty=np.array([0.5, 1.0]),
        first_rank=np.array([2, 1]),
        num_positives=np.array([1, 1]),
        num_gallery=3,
        max_rank=3,
    )
    return [values.to_json(per_query=True).encode()]


# Calls.


def as_bytes(image):
    return image.size, image.tobytes()


def open_member(path):
    return as_bytes(load_image(f"{path}::dogs/rex/rex_c1_0.png"))


def names_below(records, path):
    return [(r.path.removeprefix(str(path)), r.identity, r.camera, r.caption) for r in records]


def open_zip_folder(path):
    pattern = "**/{identity}_c{camera}_*.png"
    return names_below(read_folder(path, pattern=pattern), path)


def open_zip_captions(path):
    return names_below(read_captioned_folder(path), path)


def open_features(path):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = evaluate([str(path)])
        except SystemExit as exit_status:
            status = exit_status.code

    if status == 0:
        return out.getvalue()
    raise CommandError(error.getvalue().removesuffix("\n"))


def open_weights(path):
    return {name: tensor.tolist() for name, tensor in read_weights(path).items()}


def open_into_layer(path):
    module = layer()
    load_weights(module, path)
    return {name: tensor.tolist() for name, tensor in module.state_dict().items()}


def open_card(path):
    return read_card(path.parent)


def open_result(path):
    text = path.read_bytes().decode("utf-8", "replace")  # it takes text, not a file
    return ReidResult.from_json(text).to_json(per_query=True)


# Neutral rewrites.


def encode_json(value, **options):
    return json.dumps(value, ensure_ascii=False, **options).encode()


def indented(content):
    return encode_json(json.loads(content), indent=3)


def escaped(content):
    return json.dumps(json.loads(content)).encode()


def with_carriage_returns(content):
    return content.replace(b"\n", b"\r\n")


def with_byte_order_mark(content):
    return b"\xef\xbb\xbf" + content


def commented(content):
    return b"# a comment\n" + content.replace(b"\nstage", b"\n\n# why\nstage")


def stored(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return packed({name: archive.read(name) for name in archive.namelist()}, zipfile.ZIP_STORED)


def compressed_again(content):
    image = Image.open(io.BytesIO(content))
    if image.format != "PNG" or "exif" in image.info:
        return content

    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


_JSON = (indented, escaped)

DOORS = {
    door.name: door
    for door in (
        Door("image", "a.img", image_seeds, lambda p: as_bytes(load_image(p)), (compressed_again,)),
        Door("image-in-zip", "a.zip", zip_seeds, open_member, (stored,)),
        Door("folder-in-zip", "a.zip", zip_seeds, open_zip_folder, (stored,)),
        Door("captions-in-zip", "a.zip", zip_seeds, open_zip_captions, (stored,)),
        Door("csv", "a.csv", csv_seeds, read_csv, (with_carriage_returns, with_byte_order_mark)),
        Door("json-table", "a.json", table_seeds, read_table, _JSON),
        Door("json-lines", "a.jsonl", lines_seeds, read_table, (with_carriage_returns,)),
        Door("parquet", "a.parquet", parquet_seeds, read_table),
        Door("arrow", "a.arrow", arrow_seeds, read_table),
        Door("mars-table", "query_IDX.mat", matlab_seeds, open_mars),
        Door("annotations", "annotations.json", annotation_seeds, read_annotations, _JSON),
        Door("split", "a.json", split_seeds, read_split, _JSON),
        Door("descriptions", "a.json", description_seeds, read_descriptions, _JSON),
        Door("image-paths", "a.json", path_seeds, read_image_paths, _JSON),
        Door("image-splits", "a.json", image_split_seeds, read_image_splits, _JSON),
        Door("texts", "a.json", text_seeds, read_texts, _JSON),
        Door("prompts", "a.json", text_seeds, lambda p: vars(PromptTable.read(p)), _JSON),
        Door("recipe", "a.yaml", recipe_seeds, load_recipe, (commented, with_carriage_returns)),
        Door("features", "a.npz", feature_seeds, open_features, (stored,)),
        Door("safetensors", "a.safetensors", safetensors_seeds, open_weights),
        Door("checkpoint", "a.pt", checkpoint_seeds, open_into_layer),
        Door("card", "card.json", card_seeds, open_card, _JSON),
        Door("result", "a.json", result_seeds, open_result, _JSON),
    )
}
