import pytest
from every_sampler import pk_options


def test_sizes_of_a_step():
    options = pk_options(num_identities=4, world_size=2)
    assert options.step_size == 8
    assert options.covers_images


def test_settings_hold_all_but_the_rank():
    settings = pk_options(world_size=2).settings(7)
    assert settings["data"] == 7
    assert settings == pk_options(rank=1, world_size=2).settings(7)
    for change in ({"seed": 1}, {"coverage": "identities"}, {"if_too_few": "drop"}):
        assert settings != pk_options(world_size=2, **change).settings(7)


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_identities": 0}, "owner: expected num_identities as a whole number >= 1, got 0"),
        ({"num_instances": 0}, "owner: expected num_instances as a whole number >= 1, got 0"),
        ({"seed": -1}, "owner: expected seed as a whole number >= 0, got -1"),
        ({"world_size": 0}, "owner: expected world_size as a whole number >= 1, got 0"),
        ({"rank": -1}, "owner: expected rank as a whole number >= 0, got -1"),
        ({"rank": 2, "world_size": 2}, r"owner: expected rank in \[0, world_size = 2\), got 2"),
        ({"num_identities": "2"}, "owner: expected num_identities as a whole number >= 1, got '2'"),
        ({"if_too_few": "pad"}, "owner: expected if_too_few to be one of repeat, drop, error"),
        ({"coverage": "all"}, "owner: expected coverage to be one of identities, images"),
    ],
)
def test_wrong_options(changes, message):
    with pytest.raises(ValueError, match=message):
        pk_options(**changes)
