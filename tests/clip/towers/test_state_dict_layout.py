import pytest
import torch

from clipreid_kit.clip.towers.state_dict_layout import is_openai_layout, to_open_clip_layout


def test_openai_is_recognised_by_its_numbers(build):
    model = build("vit").model
    state = model.state_dict()
    openai = {**state, "input_resolution": torch.tensor(64)}

    assert not is_openai_layout(state)
    assert is_openai_layout(openai)
    assert to_open_clip_layout(model, openai).keys() == state.keys()


def test_names_of_the_towers_and_of_open_clip(build):
    towers = build("vit")
    inner = towers.model.state_dict()

    for state in (inner, towers.state_dict()):
        assert to_open_clip_layout(towers.model, state).keys() == inner.keys()


@pytest.mark.parametrize("prefix", ["clip.", "towers.model.", "model.towers.clip_model."])
def test_any_prefix_before_both_towers_is_dropped(build, prefix):
    model = build("vit").model
    state = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    state["classifier.weight"] = torch.ones(2)

    converted = to_open_clip_layout(model, state)

    assert converted.keys() == model.state_dict().keys() | {"classifier.weight"}


def test_two_image_towers_keep_their_prefixes(build):
    state = {"student.visual.proj": torch.ones(2), "teacher.visual.proj": torch.ones(2)}
    assert to_open_clip_layout(build("vit").model, state).keys() == state.keys()


def test_text_tensors_of_old_checkpoints_move_below_text(build):
    model = build("eos").model
    old = {name.removeprefix("text."): tensor for name, tensor in model.state_dict().items()}
    old["text_projection"] = torch.zeros(1)

    converted = to_open_clip_layout(model, old)

    assert {"text.positional_embedding", "text.token_embedding.weight"} <= converted.keys()


def test_a_scale_may_be_a_vector_of_one(build):
    state = {"logit_scale": torch.ones(1), "logit_bias": torch.ones(1)}

    converted = to_open_clip_layout(build("siglip").model, state)

    assert converted["logit_scale"].shape == ()
    assert converted["logit_bias"].shape == ()


def test_position_ids_of_old_text_models_are_dropped(build):
    state = {
        "text.transformer.embeddings.position_ids": torch.arange(3),
        "logit_scale": torch.tensor(1.0),
    }

    converted = to_open_clip_layout(build("siglip").model, state)

    assert converted.keys() == {"logit_scale"}
    assert len(state) == 2  # the caller's mapping is unchanged
