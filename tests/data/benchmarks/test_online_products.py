import pytest
import trees

from clipreid_kit.data import read_online_products


def test_products_have_a_category(tmp_path):
    records = read_online_products(trees.online_products(tmp_path), counts="ignore")

    assert [(record.identity, record.split, record.extra["category"]) for record in records] == [
        (1, "train", "bicycle"),
        (1, "train", "bicycle"),
        (11319, "test", "coffee_maker"),
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", r"Ebay_test\.txt has to begin with 'image_id .*', found 'an empty file'"),
        ("1 2 3 a.jpg\n", r"has to begin with .*, found '1 2 3 a\.jpg'"),
        (
            f"{trees.ONLINE_PRODUCTS_HEADER}\n1 2 3\n",
            r"row 2 of Ebay_test\.txt is '1 2 3'; expected image_id",
        ),
        (f"{trees.ONLINE_PRODUCTS_HEADER}\n\n1 b 3 a.jpg\n", r"row 3 of .* is '1 b 3 a\.jpg'"),
    ],
)
def test_a_list_of_another_form_is_explained(tmp_path, text, problem):
    base = trees.online_products(tmp_path)
    trees.write(base, "Ebay_test.txt", text)

    with pytest.raises(ValueError, match=f"read_online_products: .*{problem}"):
        read_online_products(base)
