import pytest
import trees

from clipreid_kit.data import read_polyu_hands


def test_identities_are_numbers_and_distractors_have_their_own(tmp_path):
    records = read_polyu_hands(trees.polyu_hands(tmp_path), counts="ignore")

    assert [(record.identity, record.split) for record in records] == [
        (2, "subject"),
        (2, "subject"),
        (10, "subject"),
        (1502, "distractor"),
    ]
    assert all(record.view == "dorsal_r" for record in records)


def test_an_image_with_another_name_is_an_error(tmp_path):
    base = trees.polyu_hands(tmp_path)
    trees.fill(base / "Original Images", "1-501/hand.bmp")

    message = r"the image 1-501/hand\.bmp is not named <identity>_\*\.jpg"
    with pytest.raises(ValueError, match=message):
        read_polyu_hands(base)


def test_a_folder_without_images_is_an_error(tmp_path):
    base = trees.polyu_hands(tmp_path)
    folder = base / "Original Images" / "502-712"
    (folder / "502_1.bmp").rename(folder / "a.txt")

    with pytest.raises(ValueError, match=r"there are no images in .*502-712\. Unpack"):
        read_polyu_hands(base)
