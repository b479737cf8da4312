"""Results under occlusion lie beside the clean ones, and are those of images occluded by hand."""

import pytest
import torch
from PIL import Image
from tiny import tiny_recipe
from tiny_towers import tiny_towers

from clipreid_kit import evaluate_reid
from clipreid_kit.data import Occlusion, evaluation_ids, read_csv
from clipreid_kit.retrieval import Encoder
from examples.trainer.evaluation import evaluate, scoring_of
from examples.trainer.records import _check_tests, arrange_tests, load_records


@pytest.mark.filterwarnings("ignore:PKSampler. .* have a single image:UserWarning")
def test_queries_are_occluded_and_the_gallery_is_not(tmp_path, images):
    changes = ["evaluate.occlusion=[bottom, patch]", "evaluate.occlusion_shares=[0.4]"]
    recipe = tiny_recipe(tmp_path, *changes, stage="classifier", images=images)
    records, _ = load_records(recipe, tmp_path)
    tests = arrange_tests(recipe, records)
    encoder = Encoder(tiny_towers(image_size=(32, 32)))

    evaluation = evaluate(encoder, tests, scoring_of(recipe), occludes=True)
    names = ["image_to_image", "image_to_image.occluded_bottom_40"]
    assert [*names, "image_to_image.occluded_patch_40"] == [
        name for name in evaluation.results if not name.startswith("text")
    ]

    query, gallery = tests["query_gallery"][0]
    hide = Occlusion("bottom", 0.4)
    hidden = [hide(Image.open(record.path).convert("RGB")) for record in query]
    expected = evaluate_reid(
        encoder.encode_images(hidden),
        encoder.encode_images(gallery),
        **evaluation_ids(query, gallery),
    )
    found = evaluation.results[names[1]]
    assert found.mean_ap == expected.mean_ap != evaluation.results[names[0]].mean_ap

    plain = evaluate(encoder, tests, scoring_of(recipe))
    assert [name for name in plain.results if "occluded" in name] == []


def test_an_encoder_behind_occluders_is_another_one(tmp_path):
    encoder = Encoder(tiny_towers(image_size=(32, 32)))
    hidden = encoder.occluded(Occlusion("top", 0.4))
    assert hidden.fingerprint != encoder.fingerprint
    assert hidden.model is encoder.model
    image = Image.new("RGB", (20, 40), "red")
    by_hand = encoder.encode_images(Occlusion("top", 0.4)(image))
    assert torch.equal(hidden.encode_images(image), by_hand)


def test_leave_one_out_occludes_all_images_or_says_so(tmp_path, images):
    changes = ["evaluate.occlusion=[top]", "evaluate.protocols=[leave_one_out]"]
    recipe = tiny_recipe(tmp_path, *changes, stage="classifier", images=images)
    query = [record for record in read_csv(images / "records.csv") if record.split == "query"]
    tests = {"leave_one_out": [(query, None)]}
    with pytest.raises(ValueError, match=r"evaluate.occlusion_sides: .* Set it to both."):
        _check_tests(recipe, tests, query, None)

    both = tiny_recipe(
        tmp_path, *changes, "evaluate.occlusion_sides=both", stage="classifier", images=images
    )
    _check_tests(both, tests, query, None)
