"""One contract for every sampler: names in errors, resuming, and the states of other samplers."""

import copy
import inspect
import itertools
import pickle
import re

import pytest
from every_sampler import BUILD, LABELS

from clipreid_kit import samplers

EVERY = pytest.mark.parametrize("name", BUILD)


def test_every_sampler_is_here():
    assert set(BUILD) == set(samplers.__all__)


# What is wrong with the labels or an option, and a part of the sentence about it.
MISTAKES = {
    "no labels": ({"labels": []}, "labels is empty"),
    "labels of text": ({"labels": ["a", "b"]}, "labels as a flat list of integers"),
    "no identities": ({"num_identities": 0}, "num_identities as a whole number >= 1"),
    "no instances": ({"num_instances": 0}, "num_(instances|tracklets) as a whole number >= 1"),
    "seed": ({"seed": -1}, "seed as a whole number >= 0"),
    "rank": ({"rank": 2, "world_size": 2}, r"rank in \[0, world_size = 2\), got 2"),
    "processes": ({"world_size": 0}, "world_size as a whole number >= 1"),
    "policy": ({"if_too_few": "pad"}, "if_too_few to be one of repeat, drop, error"),
    "coverage": ({"coverage": "all"}, "coverage to be one of identities"),
    "cameras": ({"cameras": [0, 1]}, "24 cameras, one for each label, got 2"),
    "images": ({"images": [0, 1]}, "24 images, one for each label, got 2"),
    "too few identities": ({"num_identities": 99}, "a step needs num_identities x world_size = "),
    "too few rows": ({"num_instances": 3, "if_too_few": "error"}, "identities have fewer than 3 "),
    "none left": ({"num_instances": 3, "if_too_few": "drop"}, "dropping|no identity has 3 images"),
}
NOT_AN_OPTION = {
    "HardIdentitySampler": {"coverage"},
    "TrackletSampler": {"images"},
}


@pytest.mark.unhooked
@EVERY
def test_an_error_names_the_class_that_was_called(name):
    for mistake, (options, message) in MISTAKES.items():
        if options.keys() & NOT_AN_OPTION.get(name, set()):
            continue
        with pytest.raises(ValueError, match=message) as error:
            BUILD[name](**options)
        assert re.match(rf"{name}(, domain \d+)?: ", str(error.value)), mistake


@pytest.mark.unhooked
@EVERY
def test_an_error_about_the_position_names_the_class_and_its_method(name):
    sampler = BUILD[name]()
    state = sampler.state_dict()
    for epoch, start_batch in ((-1, 0), (0, -1), (0, len(sampler) + 1)):
        with pytest.raises(ValueError, match=rf"^{name}\.set_epoch: expected "):
            sampler.set_epoch(epoch, start_batch=start_batch)

    for foreign in ({}, None, {entry: {} for entry in state}):
        with pytest.raises(ValueError, match=rf"^{name}\.load_state_dict: "):
            sampler.load_state_dict(foreign)
    with pytest.raises(ValueError, match=rf"^{name}\.load_state_dict: the state is of a sampler"):
        BUILD[name](seed=1).load_state_dict(state)


def test_tracklets_are_not_called_images():
    with pytest.raises(ValueError, match="fewer than 3 tracklets"):
        BUILD["TrackletSampler"](num_instances=3, if_too_few="error")
    with pytest.raises(ValueError, match="dropping those with too few tracklets"):
        BUILD["TrackletSampler"](num_instances=3, if_too_few="drop")


@pytest.mark.call_stack
@pytest.mark.parametrize("name", [name for name in BUILD if name != "TrackletSampler"])
def test_a_warning_shows_the_line_that_built_the_sampler(name):
    with pytest.warns(UserWarning, match="have a single image") as caught:
        BUILD[name](images=LABELS, num_instances=2)
    assert {warning.filename.rpartition("/")[2] for warning in caught} == {"every_sampler.py"}


@EVERY
def test_any_batch_of_an_epoch_resumes_it(name):
    sampler = BUILD[name](seed=3)
    sampler.set_epoch(2)
    whole = list(sampler)
    assert len(whole) == len(sampler)

    for stop in range(len(whole)):
        sampler.set_epoch(2)
        assert list(itertools.islice(sampler, stop)) == whole[:stop]

        state = pickle.loads(pickle.dumps(sampler.state_dict()))
        other = BUILD[name](seed=3)
        other.load_state_dict(state)
        assert list(copy.deepcopy(other)) == whole[stop:]
        assert other.epoch == 2


# Columns of the rows are read once and not kept: the sampler of ten million rows is small.
NOT_KEPT = {"labels", "cameras", "images", "modalities", "domains", "tracklets", "frames"}


def options_of(kind):
    return [name for name in inspect.signature(kind).parameters if name not in NOT_KEPT]


@EVERY
def test_every_option_is_readable_under_its_name(name):
    kind = getattr(samplers, name)
    others = {
        "seed": 5,
        "if_too_few": "drop",
        "coverage": "identities",
        "representative": "random",
        "shares": (2.0,),
        "num_frames": 2,
        "selection": "consecutive",
        "stride": 2,
        "rank": 1,
        "world_size": 2,
    }
    wanted = {option: value for option, value in others.items() if option in options_of(kind)}

    sampler = BUILD[name](**wanted)

    assert {
        option: getattr(sampler, option) for option in options_of(kind)
    }.items() >= wanted.items()


@EVERY
def test_no_argument_of_the_constructor_can_be_set_later(name):
    sampler = BUILD[name]()
    batches = list(sampler)

    for copied in (sampler, copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        for argument in inspect.signature(getattr(samplers, name)).parameters:
            with pytest.raises(AttributeError, match=f"^{name}: {argument} is fixed"):
                setattr(copied, argument, object())
        assert list(copied) == batches


@EVERY
def test_nothing_else_that_is_public_can_be_set(name):
    sampler = BUILD[name]()
    for attribute in dir(sampler):
        value = getattr(sampler, attribute, None)
        if not attribute.startswith("_") and not callable(value):
            with pytest.raises(AttributeError):
                setattr(sampler, attribute, object())
