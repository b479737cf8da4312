import numpy as np
import pytest

from clipreid_kit.samplers._image_copies import ImageCopies

# rows 0, 2 and 5 show image 7 of identity 1; row 4 is image 7 of another identity
LABELS = np.array([1, 1, 1, 2, 2, 1])
IMAGES = [7, 8, 7, 9, 7, 7]


def test_originals_are_the_first_rows_of_the_images_of_an_identity():
    assert ImageCopies("owner", LABELS, IMAGES).originals.tolist() == [0, 1, 3, 4]


def test_copies_take_turns():
    copies = ImageCopies("owner", LABELS, IMAGES)
    turns = [copies.in_turn(np.array([0, 1]), np.array(turn)).tolist() for turn in range(4)]
    assert turns == [[0, 1], [2, 1], [5, 1], [0, 1]]


@pytest.mark.unhooked
def test_one_image_for_each_label():
    with pytest.raises(ValueError, match="owner: expected 6 images, one for each label, got 2"):
        ImageCopies("owner", LABELS, [1, 2])
