import torch

from clipreid_kit.clip.towers.state_dict_layout import is_openai_layout, to_open_clip_layout


def test_openai_is_known_by_its_numbers(build):
    state = build("vit").model.state_dict()
    assert not is_openai_layout(state)
    marked = {**state, "input_resolution": torch.tensor(64)}
    assert is_openai_layout(marked)
    assert to_open_clip_layout(build("vit").model, marked).keys() == state.keys()


def test_names_of_the_towers_and_of_open_clip(build):
    towers = build("vit")
    inner = towers.model.state_dict()
    for state in (inner, towers.state_dict()):
        assert to_open_clip_layout(towers.model, state).keys() == inner.keys()


def test_text_of_old_checkpoints_moves_below_text(build):
    model = build("eos").model
    old = {name.removeprefix("text."): tensor for name, tensor in model.state_dict().items()}
    old["text_projection"] = torch.zeros(1)
    assert {"text.positional_embedding", "text.token_embedding.weight"} <= to_open_clip_layout(
        model, old
    ).keys()


def test_a_scale_may_be_a_vector_of_one(build):
    model = build("siglip").model
    converted = to_open_clip_layout(
        model, {"logit_scale": torch.ones(1), "logit_bias": torch.ones(1)}
    )
    assert converted["logit_scale"].shape == ()
    assert converted["logit_bias"].shape == ()


def test_position_ids_of_old_text_models_are_dropped(build):
    state = {
        "text.transformer.embeddings.position_ids": torch.arange(3),
        "logit_scale": torch.tensor(1.0),
    }
    assert to_open_clip_layout(build("siglip").model, state).keys() == {"logit_scale"}
    assert len(state) == 2  # the caller's mapping is left alone
