"""Small sets of images in the layout of every source; each function returns `data.root`.

Sixteen identities train and eight others test, with four cameras where a layout has cameras.
"""

import json
from functools import cache

from matlab_files import matlab_file, matlab_matrix

from clipreid_kit.data import SyntheticReid

TRAIN, TEST, CAMERAS = range(1, 17), range(17, 25), 4
PICTURES = SyntheticReid(24, num_cameras=CAMERAS, views_per_camera=6, image_size=(32, 32))


@cache
def picture(identity, number):
    """The n-th image of an identity from 1 to 24: by the next camera, then from the next view."""
    return PICTURES.render(identity - 1, number % CAMERAS, number // CAMERAS)


def caption(identity, number=0):
    return PICTURES.caption(identity - 1, number % CAMERAS, number // CAMERAS)


def draw(file, identity, number):
    file.parent.mkdir(parents=True, exist_ok=True)
    picture(identity, number).save(file)


def write(file, content):
    """Write a text, or anything else as JSON."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")


def named(root, parts, name, extra=()):
    """A folder per split; ``name`` builds a file name from identity, camera (from 1) and number."""
    rows = [(parts[0], i, n) for i in TRAIN for n in range(5)]
    rows += [(parts[1], i, n) for i in TEST for n in range(2)]
    rows += [(parts[2], i, n) for i in TEST for n in range(2, 6)]
    for part, identity, number in [*rows, *extra]:
        draw(root / part / name(identity, number % CAMERAS + 1, number), identity, number)
    return root


def market1501(root):
    parts = ("bounding_box_train", "query", "bounding_box_test")
    base = named(
        root / "Market-1501-v15.09.15", parts, lambda i, c, n: f"{i:04}_c{c}s1_{n:06}_00.jpg"
    )
    for name, number in (
        ("0000_c1s1_000001_00.jpg", 6),
        ("-1_c2s1_000002_00.jpg", 7),
    ):  # a distractor, and junk
        draw(base / parts[2] / name, 1, number)
    return base


def omniglot(root):
    """Characters of four training and two test alphabets; the first four drawers are queries."""
    base = root / "omniglot-reid"
    for part, identities, drawers in (
        ("train", TRAIN, range(1, 6)),
        ("test", TEST, (1, 2, 5, 6, 7, 8)),
    ):
        for i in identities:
            for number, drawer in enumerate(drawers):
                file = (
                    base
                    / part
                    / f"Alphabet_{part}_{i // 4}"
                    / f"character{i:02}"
                    / f"{i:04}_{drawer:02}.png"
                )
                draw(file, i, number)
    return base


def cuhk03(root):
    base = root / "cuhk03-np"
    for boxes in ("labeled", "detected"):
        parts = [f"{boxes}/{part}" for part in ("bounding_box_train", "query", "bounding_box_test")]
        named(base, parts, lambda i, c, n: f"{i:04}_c{c % 2 + 1}_{n}.png")
    return base


def veri776(root):
    own = [
        ("image_test", i, n) for i in TEST for n in range(2)
    ]  # the queries are in the gallery as well
    parts = ("image_train", "image_query", "image_test")
    return named(root / "VeRi", parts, lambda i, c, n: f"{i:04}_c{c:03}_{n:08}_0.jpg", own)


def msmt17(root):
    base, lists = root / "MSMT17_V1", {}
    for split, folder, identities, numbers in (
        ("train", "train", TRAIN, range(4)),
        ("val", "train", TRAIN, range(4, 5)),
        ("query", "test", TEST, range(2)),
        ("gallery", "test", TEST, range(2, 6)),
    ):
        for label, identity in enumerate(identities):
            for n in numbers:
                name = f"{label:04}/{label:04}_{n:03}_{n % CAMERAS + 1:02}_0303morning_{n:04}_0.jpg"
                draw(base / folder / name, identity, n)
                lists.setdefault(split, []).append(f"{name} {label}")
    for split, rows in lists.items():
        write(base / f"list_{split}.txt", "\n".join(rows) + "\n")
    return base


def vehicleid(root):
    base = root / "VehicleID_V1.0"
    for name, identities in (("train_list", TRAIN), ("test_list_800", TEST)):
        rows = [(f"{100 * i + n:07}", i, n) for i in identities for n in range(4)]
        for image, identity, number in rows:
            draw(base / "image" / f"{image}.jpg", identity, number)
        write(
            base / "train_test_split" / f"{name}.txt",
            "".join(f"{image} {i}\n" for image, i, _ in rows),
        )
    return base


VIEWS = ("front", "side", "back", "full")
PROMPTS = (
    "image_prompts_per_identity.json",
    "image_prompts_clean.json",
    "image_prompts_structured.json",
)


def inshop(root):
    """With descriptions, and with prompts made from them, by item and by colour variant."""
    base, rows = root / "inshop", []
    for identities, split_of in (
        (TRAIN, lambda _: "train"),
        (TEST, lambda n: "query" if n < 2 else "gallery"),
    ):
        for i in identities:
            for n in range(6):
                view = VIEWS[n % len(VIEWS)]
                name = f"img/WOMEN/Dresses/id_{i:08}/{n // 4 + 1:02}_{n % 4 + 1}_{view}.jpg"
                draw(base / "Img" / name, i, n)
                rows.append(f"{name} id_{i:08} {split_of(n)}")
    write(
        base / "Eval" / "list_eval_partition.txt",
        "\n".join([str(len(rows)), "image_name item_id status", *rows]),
    )
    texts = {f"id_{i:08}": caption(i) for i in (*TRAIN, *TEST)}
    descriptions = [
        {"item": item, "color": "Blue", "description": [text]} for item, text in texts.items()
    ]
    write(base / "Anno" / "list_description_inshop.json", descriptions)
    by_variant = {
        f"{item}/{variant}": text for item, text in texts.items() for variant in ("01", "02")
    }
    for name, content in zip(PROMPTS, (texts, texts, by_variant), strict=True):
        write(base / name, content)
    return base


def fashion(root):
    """The fashion pipeline's layout: a folder of images for each split, and their list."""
    splits, listed = root / "data" / "processed" / "splits", {}
    for identities, split_of in (
        (TRAIN, lambda n: "val" if n == 0 else "train"),
        (TEST, lambda n: "query" if n < 2 else "gallery"),
    ):
        for i in identities:
            for n in range(6):
                view = VIEWS[n % len(VIEWS)]
                name = f"img/WOMEN/Dresses/id_{i:08}/{n // 4 + 1:02}_{n % 4 + 1}_{view}.jpg"
                draw(splits / split_of(n) / name, i, n)
                listed[name] = {"item_id": f"id_{i:08}", "split": split_of(n)}

    metadata = splits.parent / "metadata"
    texts = {f"id_{i:08}": caption(i) for i in (*TRAIN, *TEST)}
    write(metadata / "image_paths.json", listed)
    for name in ("image_prompts_per_identity.json", "image_prompts_clean.json"):
        write(metadata / name, texts)
    return splits


ASPECTS = ("dorsal right", "dorsal left", "palmar right", "palmar left")


def hands11k(root):
    """Twelve persons, eleven of them on all four aspects."""
    base, rows = (
        root / "11khands",
        ["id,age,gender,skinColor,accessories,nailPolish,aspectOfHand,imageName"],
    )
    for aspect, words in enumerate(ASPECTS):
        for person in range(1, 13 if aspect == 0 else 12):
            for n in range(5):
                name = f"Hand_{1000 * aspect + 10 * person + n:07}.jpg"
                draw(base / "Hands" / name, person + 12 * (aspect // 2), n + 5 * (aspect % 2))
                rows.append(f"{person},27,male,fair,0,0,{words},{name}")
    write(base / "HandInfo.csv", "\n".join(rows) + "\n")
    return base


def polyu_hands(root):
    base = root / "HD" / "Original Images"
    for folder, identities, count in (("1-501", range(1, 17), 5), ("502-712", range(17, 22), 2)):
        for i in identities:
            for n in range(count):
                draw(base / folder / f"{i if folder == '1-501' else i + 485}_{n + 1}.bmp", i, n)
    return root / "HD"


def online_products(root):
    base = root / "Stanford_Online_Products"
    for name, identities in (("train", TRAIN), ("test", TEST)):
        rows = [
            (i, f"{'bicycle' if i % 2 else 'lamp'}_final/{i}_{n}.JPG", n)
            for i in identities
            for n in range(4)
        ]
        for identity, path, number in rows:
            draw(base / path, identity, number)
        lines = [f"{row} {i} {i % 2 + 1} {path}" for row, (i, path, _) in enumerate(rows, start=1)]
        write(
            base / f"Ebay_{name}.txt",
            "\n".join(["image_id class_id super_class_id path", *lines]) + "\n",
        )
    return base


def captioned(split):
    """Identities and numbers of a split of the sets with captions."""
    identities = {"train": range(1, 17), "val": range(17, 21), "test": range(21, 25)}[split]
    return [(i, n) for i in identities for n in range(4)]


def cuhk_pedes(root):
    base, entries = root / "CUHK-PEDES", []
    for split in ("train", "val", "test"):
        for i, n in captioned(split):
            path = f"cam_a/{i:03}_{n}.bmp"
            draw(base / "imgs" / path, i, n)
            texts = [caption(i, n), caption(i, n + 4)]
            entries.append({"split": split, "id": i, "file_path": path, "captions": texts})
    write(base / "reid_raw.json", entries)
    return base


def icfg_pedes(root):
    """Without a validation split; persons of both splits are numbered from 0."""
    base, entries = root / "ICFG-PEDES", []
    for split, first in (("train", 1), ("test", 21)):
        for i, n in captioned(split):
            path = f"train/{i:04}/{i:04}_{n:03}_0{n + 1}_0303noon_0015_0.jpg"
            draw(base / "imgs" / path, i, n)
            texts = [caption(i, n)]
            entries.append({"split": split, "id": i - first, "file_path": path, "captions": texts})
    write(base / "ICFG-PEDES.json", entries)
    return base


def rstpreid(root):
    base, entries = root / "RSTPReid", []
    for split in ("train", "val", "test"):
        for i, n in captioned(split):
            path = f"{i:04}_c{n + 1}_0031.jpg"
            draw(base / "imgs" / path, i, n)
            texts = [caption(i, n), caption(i, n + 4)]
            entries.append({"id": i, "img_path": path, "captions": texts, "split": split})
    write(base / "data_captions.json", entries)
    return base


def sysu_mm01(root):
    """Cameras 3 and 6 infrared, by name: the pictures are coloured all the same."""
    base = root / "SYSU-MM01"
    for split, identities in (("train", TRAIN), ("val", [99]), ("test", TEST)):
        write(base / "exp" / f"{split}_id.txt", ",".join(map(str, identities)))
    for camera in range(1, 7):
        for i in (*TRAIN, *TEST):
            draw(base / f"cam{camera}" / f"{i:04}" / "0001.jpg", i, camera - 1)
    return base


def regdb(root):
    base = root / "RegDB"
    for part, identities in (("train", TRAIN), ("test", TEST)):
        for folder, modality, first in (("Visible", "visible", 0), ("Thermal", "thermal", 2)):
            rows = []
            for i in identities:
                for n in (first, first + 1):
                    name = f"{folder}/{i}/{modality}_{n}_{i}.bmp"
                    draw(base / name, i, n)
                    rows.append(f"{name} {i - identities[0]}")
            write(base / "idx" / f"{part}_{modality}_1.txt", "\n".join(rows))
    return base


def llcm(root):
    base = root / "LLCM"
    for modality, first in (("vis", 0), ("nir", 2)):
        rows = []
        for i in TRAIN:
            for n in (first, first + 1):
                name = f"{modality}/{i:04}/{i:04}_c{n + 1:02}_{n}.jpg"
                draw(base / name, i, n)
                rows.append(f"{name} {i - 1}")
        write(base / "idx" / f"train_{modality}.txt", "\n".join(rows))
        for i in TEST:
            for n in (first, first + 1):
                draw(base / f"test_{modality}" / f"cam{n + 1}" / f"{i:04}" / f"{n}.jpg", i, n)
    write(base / "idx" / "test_id.txt", ",".join(map(str, TEST)))
    return base


def ag_reid(root):
    base = root / "AG-ReID"
    folders = [("bounding_box_train", TRAIN, (0, 3), (0, 1))]
    for camera in (0, 3):
        folders.append((f"query_all_c{camera}", TEST, (camera,), (2,)))
        folders.append((f"bounding_box_test_all_c{camera}", TEST, (camera,), (3,)))
    for folder, identities, cameras, numbers in folders:
        for i in identities:
            for camera in cameras:
                for n in numbers:
                    name = f"P{i:04}T02193A0C{camera}F{n:05}.jpg"
                    draw(base / folder / name, i, n + camera)
    return base


def cargo(root):
    base = root / "CARGO"
    for split, identities, numbers in (
        ("train", TRAIN, (0, 1)),
        ("query", TEST, (2,)),
        ("gallery", TEST, (3,)),
    ):
        for i in identities:
            for camera in (2, 9):
                for n in numbers:
                    name = f"Cam{camera}_day_{i}_{n}.jpg"
                    draw(base / split / f"Cam{camera}" / name, i, n + camera)
    return base


def mars(root):
    """Tracklets of three frames, one of each person by each of three cameras."""
    base = root / "MARS"
    for side, identities in (("train", TRAIN), ("test", TEST)):
        names, rows = [], []
        for i in identities:
            for camera in (1, 2, 3):
                first = len(names) + 1
                for frame in (1, 2, 3):
                    names.append(f"{i:04}C{camera}T0001F{frame:03}.jpg")
                    draw(base / f"bbox_{side}/{i:04}/{names[-1]}", i, 3 * camera + frame)
                rows.append([first, len(names), i, camera])
        write(base / f"info/{side}_name.txt", "\n".join(names))
        matlab_table(base / f"info/tracks_{side}_info.mat", rows)

    queries = [3 * n + 1 for n in range(len(TEST))]  # those of the first camera
    matlab_table(base / "info/query_IDX.mat", [queries])
    return base


def matlab_table(file, rows):
    file.write_bytes(matlab_file(matlab_matrix("table", rows)))


def annotations(root):
    """Format A, with categories."""
    base, splits = root / "annotated", {}
    for split in ("train", "val", "test"):
        for i, n in captioned(split):
            path = f"images/{i:03}_{n}.png"
            draw(base / path, i, n)
            entry = {
                "image_path": path,
                "caption": caption(i, n),
                "id": i,
                "category": ("indoor", "outdoor")[i % 2],
            }
            splits.setdefault(split, []).append(entry)
    write(base / "annotations.json", {"splits": splits})
    return base


def captioned_folder(root):
    """Format B; captions in .txt files and in .json files."""
    base = root / "captioned"
    for split in ("train", "val", "test"):
        for i, n in captioned(split):
            file = base / split / f"{i:03}_{n}.png"
            draw(file, i, n)
            text = caption(i, n)
            write(
                file.with_suffix(".json" if n % 2 else ".txt"), {"caption": text} if n % 2 else text
            )
    return base
