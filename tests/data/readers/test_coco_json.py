import json

import pytest
from PIL import Image

from clipreid_kit.data import ImageRecord, load_image, read_coco

IMAGES = [
    {"id": 1, "file_name": "a.png", "width": 40, "camera": "gate"},
    {"id": 2, "file_name": "b.png"},
]
CATEGORIES = [{"id": 3, "name": "zebra"}, {"id": 4, "name": "horse"}]


def write(folder, annotations, images=IMAGES, categories=CATEGORIES):
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(content))
    return folder / "boxes.json"


def box(image=1, category=3, bbox=(1, 2, 10, 20), **keys):
    return {"image_id": image, "category_id": category, "bbox": list(bbox), "area": 200, **keys}


def test_each_box_is_an_image_of_its_individual(tmp_path):
    file = write(
        tmp_path,
        [
            box(identity=7, iscrowd=0),
            box(attributes={"identity": "9", "split": "query", "sick": True}, category=4),
            box(image=2, identity=7.0, bbox=(0.4, 0.6, 3, 3), camera="pond", caption="a foal"),
        ],
    )
    assert read_coco(file, root="in") == [
        ImageRecord("in/a.png#xywh=1,2,10,20", 7, "gate", extra={"category": "zebra"}),
        ImageRecord(
            "in/a.png#xywh=1,2,10,20",
            "9",
            "gate",
            split="query",
            extra={"sick": "true", "category": "horse"},
        ),
        ImageRecord(
            "in/b.png#xywh=0,1,3,3", 7, "pond", caption="a foal", extra={"category": "zebra"}
        ),
    ]


def test_a_category_or_another_key_may_be_the_identity(tmp_path):
    file = write(tmp_path, [box(track=5), box(category=4, track=6)])
    assert [record.identity for record in read_coco(file, identity="track")] == [5, 6]
    by_category = read_coco(file, identity="category")
    assert [record.identity for record in by_category] == ["zebra", "horse"]
    assert by_category[0].extra == {"track": "5"}


def test_without_a_box_it_is_the_whole_image(tmp_path):
    (record,) = read_coco(write(tmp_path, [{"image_id": 2, "identity": 1}]))
    assert record.path == f"{tmp_path}/b.png"


def test_the_box_is_what_is_loaded(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (record,) = read_coco(write(tmp_path, [box(identity=1)]))
    assert load_image(record.path).size == (10, 20)


def test_boxes_without_an_identity_are_named_or_left_out(tmp_path):
    file = write(tmp_path, [box(identity=1), box(name="rex"), box(attributes={"herd": 2})])
    with pytest.raises(
        ValueError, match=r"2 of 3 annotations of .* have no 'identity' .*: herd, identity, name\)"
    ):
        read_coco(file)
    assert len(read_coco(file, without_identity="skip")) == 1


def test_a_file_without_boxes_is_empty(tmp_path):
    assert read_coco(write(tmp_path, [])) == []


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("[]", "is not of COCO's format"),
        ('{"images": []}', "is not of COCO's format"),
        ("{", "cannot read .* as JSON"),
        ('{"images": 3, "annotations": []}', "'images' in .* has to be a list of objects"),
        ('{"images": [{}], "annotations": []}', "an object of 'images' in .* has no id"),
        (
            '{"images": [{"id": 1}, {"id": 1}], "annotations": []}',
            "the id 1 occurs twice in 'images'",
        ),
        (
            '{"images": [], "annotations": [{"image_id": 8}]}',
            "annotation 1 of .* names the image 8, which the file does not list",
        ),
        (
            '{"images": [{"id": 1}], "annotations": [{"image_id": 1, "identity": 2}]}',
            "expected file_name of an image as a string, got None for annotation 1",
        ),
    ],
)
def test_a_bad_file_is_explained(tmp_path, content, problem):
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(ValueError, match=f"read_coco: .*{problem}|read_coco: {problem}"):
        read_coco(tmp_path / "boxes.json")


@pytest.mark.parametrize(
    ("annotation", "problem"),
    [
        (box(identity=[1]), r"expected identity as a whole number or a string, got \[1\]"),
        (box(identity=1, bbox=(0, 0, 0, 5)), "annotation 1 of .* holds no pixel"),
        (box(identity=1, bbox=(0, 0, 5)), "a box of four numbers in annotation 1"),
        (box(identity=1, category=9), "names the category 9, which the file does not list"),
    ],
)
def test_a_bad_annotation_is_explained(tmp_path, annotation, problem):
    with pytest.raises(ValueError, match=problem):
        read_coco(write(tmp_path, [annotation]))


def test_a_missing_file_is_explained(tmp_path):
    with pytest.raises(ValueError, match="read_coco: there is no file at"):
        read_coco(tmp_path / "none.json")


def test_values_are_those_of_other_readers(tmp_path):
    annotation = box(identity=" 7a ", camera=3.0, split=" train ", caption=["a foal", "a zebra"])
    (record,) = read_coco(write(tmp_path, [annotation]))
    assert (record.identity, record.camera, record.split) == ("7a", 3, "train")
    assert record.caption == "a foal"
    assert record.extra["caption_2"] == "a zebra"


@pytest.mark.parametrize(
    ("annotations", "problem"),
    [
        ([box(identity=1, split=["train"])], r"expected split as a string, got \['train'\]"),
        ([box(identity=1, caption={"en": "x"})], "expected a caption as a text or a list of texts"),
        ([box(identity=2.0**53)], "may have lost its last digits"),
        ([box(image=True, identity=1)], "names the image True, which the file does not list"),
        ([box(identity=1, id=5), box(identity=2, id=5)], "the id 5 occurs twice in 'annotations'"),
        ([box(identity="  ")], "1 of 1 annotations of .* have no 'identity'"),
    ],
)
def test_values_that_are_unclear_are_explained(tmp_path, annotations, problem):
    with pytest.raises(ValueError, match=f"read_coco: .*{problem}"):
        read_coco(write(tmp_path, annotations))


def test_a_key_named_nearly_as_a_field_is_named(tmp_path):
    file = write(tmp_path, [box(image=2, identity=1, Camera=3)])
    with pytest.warns(UserWarning, match="'Camera' .* no record has a camera.* rename the key"):
        read_coco(file)
