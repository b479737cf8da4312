import warnings

import pytest

from clipreid_kit.data.readers._split_names import is_split_name, warn_of_near_folders


@pytest.mark.parametrize(
    "name",
    [
        "train",
        "Query",
        "train_images",
        "query-imgs",
        "TestImages",
        "images_train",
        "bounding_box_test",
        "train2017",
        "val_gallery",
        "probe set",
    ],
)
def test_names_of_splits(name):
    assert is_split_name(name)


@pytest.mark.parametrize(
    "name", ["rex", "images", "0001", "", "testarossa", "train_conductor", "Квери_test", "box"]
)
def test_names_of_identities(name):
    assert not is_split_name(name)


@pytest.mark.parametrize("folder", ["Query", "QUERY ", "que\u200bry", "query_", "query."])
def test_a_folder_that_is_nearly_a_split_is_named(folder):
    with pytest.warns(UserWarning, match=r"reader: the folder .* nearly that of the split 'query'"):
        warn_of_near_folders("reader", ("train", "query"), ["train", "query", folder])


def test_other_folders_are_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_near_folders("reader", ("train", "query"), ["train", "query", "val", "query2"])
