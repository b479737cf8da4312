import trees

from clipreid_kit.data import read_veri776


def test_cameras_and_a_query_that_is_in_the_gallery(tmp_path):
    records = read_veri776(trees.veri776(tmp_path), counts="ignore")

    assert [(record.identity, record.camera, record.split) for record in records] == [
        (1, 1, "train"),
        (2, 2, "query"),
        (2, 2, "gallery"),
        (2, 20, "gallery"),
    ]
