"""Sets of two modalities or views: what is tested, by which rule, and what a batch holds."""

import layouts
import numpy as np
import pytest
import torch
from tiny import session_of, tiny_recipe

from examples.trainer.assemble import pk_batches, training_images
from examples.trainer.evaluation import evaluate, scoring_of
from examples.trainer.records import arrange_tests, load_records


class Directions:
    """Embeds each image in a direction that its path fixes."""

    def encode_images(self, records):
        names = [record.path.rpartition("/examples")[2] for record in records]
        return torch.stack(
            [
                torch.randn(8, generator=torch.Generator().manual_seed(sum(map(ord, name))))
                for name in names
            ]
        )


def evaluated(tmp_path, source, *changes):
    root = getattr(layouts, source)(tmp_path)
    where = (f"data.source={source}", f"data.root={root}", "data.counts=ignore")
    recipe = tiny_recipe(tmp_path, *where, *changes, stage="classifier")
    records = load_records(recipe, tmp_path / "run", quiet=True)[0]
    return evaluate(Directions(), arrange_tests(recipe, records), scoring_of(recipe)), records


def test_searches_of_sysu_mm01(tmp_path):
    found, records = evaluated(tmp_path, "sysu_mm01", "evaluate.num_splits=2")
    names = ("sysu_all", "sysu_indoor", "sysu_all_multi", "sysu_indoor_multi")
    assert list(found.results) == [f"image_to_image.{name}" for name in names]

    single, indoor, multi, _ = found.results.values()
    assert [result.num_splits for result in found.results.values()] == [2] * 4
    # eight test identities, each with an image of every camera
    assert single.results[0].num_queries == 16
    assert (single.results[0].num_gallery, indoor.results[0].num_gallery) == (32, 16)
    assert multi.protocol == "SYSU-MM01 all-search 10-shot, 2 draws (seed 0)"
    assert {record.split for record in records} == {"train", "query", "gallery"}


def test_the_draws_of_the_set_are_used(tmp_path):
    io = pytest.importorskip("scipy.io")
    root = layouts.sysu_mm01(tmp_path)
    cells = np.empty((6, 1), dtype=object)
    for camera in range(6):
        cells[camera, 0] = np.empty((24, 1), dtype=object)
        for identity in range(24):
            cells[camera, 0][identity, 0] = np.ones((10, 1))
    io.savemat(root / "exp" / "rand_perm_cam.mat", {"rand_perm_cam": cells})

    found, _ = evaluated(tmp_path, "sysu_mm01", "evaluate.protocols=[sysu_all]")
    name = found.results["image_to_image.sysu_all"].protocol
    assert name == "SYSU-MM01 all-search single-shot, 10 fixed draws"

    trial, _ = evaluated(
        tmp_path / "trial", "sysu_mm01", "evaluate.protocols=[sysu_all]", "data.trial_identities=4"
    )
    assert trial.results["image_to_image.sysu_all"].protocol.endswith("10 draws (seed 0)")


@pytest.mark.parametrize(
    ("source", "task", "directions", "sizes"),
    [
        ("regdb", "cross_modality", ("thermal_to_visible", "visible_to_thermal"), (16, 16)),
        ("ag_reid", "cross_view", ("aerial_to_ground", "ground_to_aerial"), (8, 8)),
    ],
)
def test_both_directions(tmp_path, source, task, directions, sizes):
    found, _ = evaluated(tmp_path, source)
    name = f"image_to_image.{task}"
    assert list(found.results) == [name, *(f"{name}.{direction}" for direction in directions)]
    for direction in directions:
        result = found.results[f"{name}.{direction}"]
        assert (result.num_queries, result.num_gallery) == sizes
    assert found.results[name].num_queries == 2 * sizes[0]


def test_directions_of_llcm(tmp_path):
    found, _ = evaluated(tmp_path, "llcm", "evaluate.num_splits=3")
    names = [f"image_to_image.llcm.{d}" for d in ("infrared_to_visible", "visible_to_infrared")]
    assert list(found.results) == names
    assert found.results[names[0]].num_splits == 3


def test_wrong_images_of_the_own_view_may_stay(tmp_path):
    left_out, _ = evaluated(tmp_path, "cargo")
    stay, _ = evaluated(tmp_path, "cargo", "evaluate.same=distractors")
    names = ("image_to_image.cross_view", "image_to_image.cross_view.aerial_to_ground")
    for name in names:
        assert left_out.results[name].num_gallery == 8
        assert stay.results[name].num_gallery == 16


def test_rerank_is_a_task_of_its_own(tmp_path):
    found, _ = evaluated(tmp_path, "ag_reid", "evaluate.rerank=true", "evaluate.rerank_k1=3")
    assert "image_to_image.cross_view.aerial_to_ground.rerank" in found.results
    with pytest.raises(ValueError, match=r"rerank. is not defined with `evaluate.protocols: sysu"):
        evaluated(tmp_path, "sysu_mm01", "evaluate.rerank=true")


def test_validation_is_across_modalities_too(tmp_path, images):
    recipe = tiny_recipe(tmp_path, "evaluate.protocols=[cross_modality]", images=images)
    assert recipe.compares_across() == "modality"
    assert tiny_recipe(tmp_path, images=images).compares_across() is None
    assert (
        tiny_recipe(tmp_path, "evaluate.protocols=[cross_view]", images=images).compares_across()
        == "view"
    )


def batches(tmp_path, images, *changes):
    recipe = tiny_recipe(tmp_path, *changes, stage="classifier", images=images)
    session = session_of(recipe, tmp_path)
    dataset = training_images(recipe, session)
    return dataset, list(pk_batches(recipe, session, dataset).sampler)


@pytest.mark.parametrize("column", ["modality", "view"])
def test_a_batch_has_equally_many_of_each(tmp_path, images, column):
    changes = (f"batch.across={column}", "batch.num_instances=4")
    dataset, found = batches(tmp_path, images, *changes)
    for batch in found:
        values = np.array([getattr(dataset.records[row], column) for row in batch])
        assert len(batch) == 4 * 4
        for block in values.reshape(4, 4):
            assert sorted(block) == sorted(2 * sorted(set(values)))


def test_uneven_instances_are_refused(tmp_path, images):
    with pytest.raises(
        ValueError, match="3 images of an identity cannot be shared evenly by 2 values of modality"
    ):
        batches(tmp_path, images, "batch.across=modality", "batch.num_instances=3")


def test_a_missing_modality_is_named(tmp_path, images):
    table = images / "bare.csv"
    rows = [line.rsplit(",", 1)[0] for line in (images / "records.csv").read_text().splitlines()]
    table.write_text("\n".join(rows) + "\n")
    recipe = tiny_recipe(
        tmp_path, "evaluate.protocols=[cross_modality]", f"data.root={table}", images=images
    )
    with pytest.raises(ValueError, match=r"data: \d+ of \d+ images have no modality"):
        load_records(recipe, tmp_path, quiet=True)


def test_idle_keys(tmp_path):
    with pytest.raises(ValueError, match=r"evaluate.same` has no effect without `cross_modality`"):
        tiny_recipe(tmp_path, "evaluate.same=distractors")
