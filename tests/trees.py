"""Small copies of the layouts of published benchmarks, for tests of their readers."""

import json
import zipfile

from matlab_files import matlab_file, matlab_matrix


def fill(root, *names):
    """Create empty files."""
    for name in names:
        write(root, name, "")
    return root


def write(root, name, text):
    """Create a text file, with its folders."""
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def pack(folder, archive):
    """Put a folder into a zip archive, under the folder's own name."""
    with zipfile.ZipFile(archive, "w") as opened:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                opened.write(file, f"{folder.name}/{file.relative_to(folder).as_posix()}")
    return archive


def market1501(root):
    return fill(
        root / "Market-1501-v15.09.15",
        "bounding_box_train/0002_c1s1_000451_03.jpg",
        "bounding_box_train/0002_c3s2_000511_01.jpg",
        "bounding_box_train/Thumbs.db",
        "query/0001_c1s1_001051_00.jpg",
        "bounding_box_test/-1_c3s1_000401_03.jpg",
        "bounding_box_test/0000_c4s1_000151_01.jpg",
        "bounding_box_test/0001_c2s1_001976_01.jpg",
        "readme.txt",
    )


def cuhk03(root):
    return fill(
        root / "cuhk03-np",
        "labeled/bounding_box_train/0001_c1_1.png",
        "labeled/query/0003_c1_21.png",
        "labeled/bounding_box_test/0003_c2_23.png",
        "detected/bounding_box_train/0001_c1_1.png",
        "detected/bounding_box_train/0001_c2_7.png",
        "detected/query/0003_c1_21.png",
        "detected/bounding_box_test/0003_c2_23.png",
    )


def veri776(root):
    return fill(
        root / "VeRi",
        "image_train/0001_c001_00016450_0.jpg",
        "image_query/0002_c002_00030600_0.jpg",
        "image_test/0002_c002_00030600_0.jpg",
        "image_test/0002_c020_00084280_0.jpg",
        "name_train.txt",
    )


MSMT17_ROWS = {
    "train": [
        "0000/0000_000_01_0303morning_0015_0.jpg 0",
        "0001/0001_000_15_0113noon_0001_1.jpg 1",
    ],
    "val": ["0000/0000_001_12_0303morning_0016_0.jpg 0"],
    "query": ["0000/0000_000_07_0303noon_0043_2.jpg 0"],
    "gallery": [
        "0000/0000_001_08_0303noon_0043_2.jpg 0",
        "0001/0001_000_08_0303noon_0043_2.jpg 1",
    ],
}


def msmt17(root, version=1):
    base = root / f"MSMT17_V{version}"
    train, test = ("train", "test") if version == 1 else ("mask_train_v2", "mask_test_v2")

    for name, rows in MSMT17_ROWS.items():
        write(base, f"list_{name}.txt", "\n".join(rows) + "\n")
        folder = train if name in ("train", "val") else test
        fill(base, *(f"{folder}/{row.split()[0]}" for row in rows))
    return base


def vehicleid(root):
    base = root / "VehicleID_V1.0"
    fill(base, *(f"image/{n:07}.jpg" for n in range(1, 7)), "attribute/img2vid.txt")
    write(base, "train_test_split/train_list.txt", "0000001 17\n0000002 17\n")
    write(base, "train_test_split/test_list_800.txt", "0000003 4\n0000004 4\n0000005 9\n")
    write(base, "train_test_split/test_list_1600.txt", "0000006 4\n")
    return base


INSHOP_ROWS = [
    ("img/WOMEN/Dresses/id_00000002/02_1_front.jpg", "id_00000002", "train"),
    ("img/WOMEN/Dresses/id_00000002/02_3_back.jpg", "id_00000002", "train"),
    ("img/MEN/Denim/id_00000080/01_4_full.jpg", "id_00000080", "query"),
    ("img/MEN/Denim/id_00000080/01_7_additional.jpg", "id_00000080", "gallery"),
]


def inshop(root, rows=INSHOP_ROWS, count=None, images="Img/"):
    base = root / "inshop"
    num_rows = len(rows) if count is None else count
    lines = [str(num_rows), "image_name item_id evaluation_status"]
    lines += ["  ".join(row) for row in rows]

    write(base, "Eval/list_eval_partition.txt", "\n".join(lines) + "\n")
    return fill(base, *(images + row[0] for row in rows))


HANDS11K_HEADER = "id,age,gender,skinColor,accessories,nailPolish,aspectOfHand,imageName"
HANDS11K_ROWS = [
    "0,27,male,fair,0,0,dorsal right,Hand_0000002.jpg",
    "0,27,male,fair,0,0,palmar left,Hand_0000003.jpg",
    "1200000 ,21,female,dark,0,1,dorsal right,Hand_0000004.jpg",
    "1200000,21,female,dark,1,1,dorsal right,Hand_0000005.jpg",
    "7,,male,fair,0,0,dorsal left,Hand_0000006.jpg",
]


def hands11k(root, rows=HANDS11K_ROWS, header=HANDS11K_HEADER):
    base = root / "11khands"
    write(base, "HandInfo.csv", "\n".join([header, *rows]) + "\n")
    return fill(base, *(f"Hands/Hand_000000{n}.jpg" for n in range(2, 7)))


def polyu_hands(root):
    base = root / "HD" / "Original Images"
    fill(base, "1-501/2_1.bmp", "1-501/10_1.bmp", "1-501/2_2.bmp", "502-712/502_1.bmp", "notes.txt")
    return base.parent


ONLINE_PRODUCTS_HEADER = "image_id class_id super_class_id path"


def online_products(root):
    base = root / "Stanford_Online_Products"
    train = ["1 1 1 bicycle_final/11_0.JPG", "2 1 1 bicycle_final/11_1.JPG"]
    test = ["59552 11319 3 coffee_maker_final/22_0.JPG"]

    write(base, "Ebay_train.txt", "\n".join([ONLINE_PRODUCTS_HEADER, *train]) + "\n")
    write(base, "Ebay_test.txt", "\n".join([ONLINE_PRODUCTS_HEADER, *test]) + "\n")
    return fill(base, *(row.split()[-1] for row in [*train, *test]))


CUHK_PEDES_ENTRIES = [
    {
        "split": "train",
        "id": 1,
        "file_path": "cam_a/001.bmp",
        "captions": ["a man", "a tall man"],
        "processed_tokens": [[]],
    },
    {"split": "val", "id": 2, "file_path": "test_query/2.jpg", "captions": ["a woman"]},
    {
        "split": "test",
        "id": 3,
        "file_path": "Market/3.jpg",
        "captions": ["a child", "a boy", "a young boy"],
    },
]


def cuhk_pedes(root, entries=CUHK_PEDES_ENTRIES):
    base = root / "CUHK-PEDES"
    write(base, "reid_raw.json", json.dumps(entries))
    return fill(base, *(f"imgs/{entry['file_path']}" for entry in CUHK_PEDES_ENTRIES))


ICFG_PEDES_ENTRIES = [
    {
        "split": "train",
        "file_path": "test/0627/0627_010_05_0303afternoon_1591_0.jpg",
        "id": 0,
        "processed_tokens": [["a", "man"]],
        "captions": ["a man"],
    },
    {
        "split": "train",
        "file_path": "train/0001/0001_000_15_0113noon_0001_1.jpg",
        "id": 1,
        "captions": ["a woman"],
    },
    {
        "split": "test",
        "file_path": "train/0002/0002_000_07_0303noon_0043_2.jpg",
        "id": 0,
        "captions": ["a child"],
    },
]


def icfg_pedes(root, entries=ICFG_PEDES_ENTRIES, file="ICFG-PEDES.json"):
    base = root / "ICFG-PEDES"
    write(base, file, json.dumps(entries))
    return fill(base, *(f"imgs/{entry['file_path']}" for entry in ICFG_PEDES_ENTRIES))


RSTPREID_ENTRIES = [
    {"id": 0, "img_path": "0000_c14_0031.jpg", "captions": ["a", "b"], "split": "train"},
    {"id": 3701, "img_path": "3701_c1_0002.jpg", "captions": ["c", "d"], "split": "val"},
    {"id": 3901, "img_path": "3901_c7_0001.jpg", "captions": ["e", "f"], "split": "test"},
]


def rstpreid(root, entries=RSTPREID_ENTRIES):
    base = root / "RSTPReid"
    write(base, "data_captions.json", json.dumps(entries))
    return fill(base, *(f"imgs/{entry['img_path']}" for entry in RSTPREID_ENTRIES))


def sysu_mm01(root):
    """Identities 1 and 2 train, 3 validates, 6 tests; 9 is in no list."""
    base = root / "SYSU-MM01"
    for split, identities in (("train", "1,2"), ("val", "3"), ("test", "6")):
        write(base, f"exp/{split}_id.txt", identities + "\n")
    images = [f"cam{camera}/{i:04}/0001.jpg" for camera in range(1, 7) for i in (1, 6)]
    return fill(base, *images, "cam1/0006/0002.jpg", "cam1/0003/0001.jpg", "cam2/0009/0001.jpg")


def regdb(root, split=1):
    base = root / "RegDB"
    for part, person in (("train", 7), ("test", 8)):
        for folder, modality in (("Visible", "visible"), ("Thermal", "thermal")):
            names = [f"{folder}/{person}/male_back_{modality[0]}_0{n}_{person}.bmp" for n in (1, 2)]
            fill(base, *names)
            rows = "".join(f"{name} 0\n" for name in names)
            write(base, f"idx/{part}_{modality}_{split}.txt", rows)
    return base


def llcm(root):
    base = root / "LLCM"
    for modality in ("vis", "nir"):
        image = f"{modality}/0004/0004_c02_s1_01.jpg"
        fill(base, image, f"test_{modality}/cam3/0005/a.jpg", f"test_{modality}/cam1/0006/b.jpg")
        write(base, f"idx/train_{modality}.txt", f"{image} 0\n")
    write(base, "idx/test_id.txt", "5")
    return base


def ag_reid(root):
    return fill(
        root / "AG-ReID",
        "bounding_box_train/P0001T02193A0C0F00000.jpg",
        "bounding_box_train/P0001T02193A0C3F00012.jpg",
        "query_all_c0/P0002T02160A1C0F00100.jpg",
        "query_all_c3/P0002T02160A1C3F00200.jpg",
        "bounding_box_test_all_c3/P0002T02160A1C3F00230.jpg",
        "bounding_box_test_all_c0/P0002T02160A1C0F00130.jpg",
    )


def cargo(root):
    return fill(
        root / "CARGO",
        "train/Cam1/Cam1_day_7_12.jpg",
        "train/Cam13/Cam13_night_7_3.jpg",
        "query/Cam5/Cam5_day_2501_1.jpg",
        "gallery/Cam6/Cam6_day_2501_9.jpg",
    )


# Images of each tracklet of a small MARS: junk, distractors, one person by two cameras, another.
MARS_TRAIN = [("0001C1T0001", 3), ("0001C2T0001", 2), ("0003C6T0001", 1)]
MARS_TEST = [("00-1C1T0001", 2), ("0000C1T0001", 2), ("0002C1T0001", 2), ("0002C3T0001", 3)]
MARS_QUERIES = [3]


def mars(root, train=MARS_TRAIN, test=MARS_TEST, queries=MARS_QUERIES):
    base = root / "MARS"
    for side, tracklets in (("train", train), ("test", test)):
        names, rows = [], []
        for name, count in tracklets:
            first = len(names) + 1
            names += [f"{name}F{frame:03d}.jpg" for frame in range(1, count + 1)]
            identity = -1 if name.startswith("00-1") else int(name[:4])
            rows.append([first, len(names), identity, int(name[5])])

        write(base, f"info/{side}_name.txt", "".join(f"{name}\n" for name in names))
        table = matlab_file(matlab_matrix(f"track_{side}_info", rows))
        (base / f"info/tracks_{side}_info.mat").write_bytes(table)
        fill(base, *(f"bbox_{side}/{name[:4]}/{name}" for name in names))

    table = matlab_file(matlab_matrix("query_IDX", queries, kind="u2", packed=False))
    (base / "info/query_IDX.mat").write_bytes(table)
    return base
