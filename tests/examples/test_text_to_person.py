"""Every caption of an image is trained on, and is a query of the evaluation."""

import layouts
import pytest
import torch
from tiny import tiny_recipe

from clipreid_kit.data import captions_of, records_of
from examples.trainer.evaluation import evaluate, scoring_of
from examples.trainer.records import arrange_tests, load_records, validation_of


class Directions:
    """Embeds each image and each caption in a direction that its name fixes."""

    def encode_images(self, records):
        return self._rows([record.path.rpartition("/")[2] for record in records])

    def encode_texts(self, texts):
        return self._rows(texts)

    @staticmethod
    def _rows(names):
        return torch.stack(
            [
                torch.randn(8, generator=torch.Generator().manual_seed(sum(map(ord, name))))
                for name in names
            ]
        )


def described(tmp_path, source, *changes, stage="joint"):
    root = getattr(layouts, source)(tmp_path)
    where = (f"data.source={source}", f"data.root={root}", "data.counts=ignore")
    recipe = tiny_recipe(tmp_path, *where, *changes, stage=stage)
    return recipe, load_records(recipe, tmp_path / "run", quiet=True)[0]


@pytest.mark.parametrize(
    ("source", "each"), [("cuhk_pedes", 2), ("icfg_pedes", 1), ("rstpreid", 2)]
)
def test_every_pair_is_trained_on_and_every_caption_is_a_query(tmp_path, source, each):
    recipe, records = described(tmp_path, source)
    train, test = records_of(records, "train"), records_of(records, "test")
    assert recipe.protocols() == ("leave_one_out", "text_to_person")
    assert (len(train), len(test)) == (64 * each, 16)

    found = evaluate(Directions(), arrange_tests(recipe, records), scoring_of(recipe))
    assert list(found.results) == ["image_to_image", "text_to_image"]
    assert found.results["image_to_image"].num_queries == 16
    texts = found.results["text_to_image"]
    assert (texts.num_queries, texts.num_gallery) == (16 * each, 16)
    assert texts.num_positives.tolist() == [4] * 16 * each


def test_the_first_captions_alone(tmp_path):
    _, records = described(tmp_path, "rstpreid", "data.captions=first")
    assert len(records_of(records, "train")) == 64
    assert all(len(captions_of(record)) == 2 for record in records)


def test_a_stage_without_texts_is_evaluated_by_images(tmp_path):
    recipe, records = described(tmp_path, "rstpreid", stage="classifier")
    assert recipe.protocols() == ("leave_one_out",)
    assert len(records_of(records, "train")) == 64


def test_validation_is_by_every_caption_too(tmp_path):
    _, records = described(tmp_path, "rstpreid")
    assert list(validation_of(records)) == ["leave_one_out"]
    tests = validation_of(records, by_captions=True)
    assert tests["text_to_person"] == tests["leave_one_out"]


@pytest.mark.parametrize(
    ("stage", "protocols", "message"),
    [
        ("classifier", "[text_to_person]", "needs a stage that evaluates texts, not classifier"),
        ("joint", "[splits, text_to_person]", "goes with query_gallery or leave_one_out, not with"),
    ],
)
def test_what_the_protocol_needs(tmp_path, stage, protocols, message):
    with pytest.raises(ValueError, match=message):
        tiny_recipe(tmp_path, f"evaluate.protocols={protocols}", stage=stage)


def test_captions_that_are_queries_anyway_are_no_choice(tmp_path):
    with pytest.raises(ValueError, match="captions` has no effect without another protocol"):
        tiny_recipe(
            tmp_path, "evaluate.protocols=[text_to_person]", "evaluate.captions=all", stage="joint"
        )


def test_the_generated_set_ranks_its_gallery(tmp_path, images):
    recipe = tiny_recipe(tmp_path, "evaluate.protocols=[text_to_person]", images=images)
    records, _ = load_records(recipe, tmp_path, quiet=True)
    found = evaluate(Directions(), arrange_tests(recipe, records), scoring_of(recipe))

    texts = found.results["text_to_image"]
    assert list(found.results) == ["text_to_image"]
    assert texts.num_queries == len(records_of(records, "query"))
    assert texts.num_gallery == len(records_of(records, "gallery"))


def test_an_image_in_two_rows_is_refused(tmp_path, images):
    rows = (images / "records.csv").read_text().splitlines()
    repeated = next(row for row in rows if "gallery" in row and "val" not in row)
    table = images / "repeated.csv"
    table.write_text("\n".join([*rows, repeated]) + "\n")

    changes = ("evaluate.protocols=[text_to_person]", f"data.root={table}")
    recipe = tiny_recipe(tmp_path, *changes, images=images)
    with pytest.raises(ValueError, match="ranks each image once, and 1 rows repeat one"):
        load_records(recipe, tmp_path, quiet=True)
