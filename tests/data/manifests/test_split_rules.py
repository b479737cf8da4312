"""Every rule that makes a manifest: disjoint, complete, seeded, and true to its protocol."""

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clipreid_kit.data import (
    ImageRecord,
    apply_split,
    check_splits,
    hold_out_identities,
    records_of,
    split_first_identities,
    split_identities,
    split_images,
    split_query_gallery,
)
from clipreid_kit.data.hands import split_hands

_sizes = st.lists(st.integers(1, 6), min_size=6, max_size=20)


def _records(sizes, cameras=None):
    """As many images of each identity as ``sizes`` says, cameras in turn."""
    rows = [(identity, number) for identity, size in enumerate(sizes) for number in range(size)]
    return [
        ImageRecord(
            f"d/{identity}/{number}.jpg", identity, camera=number % cameras if cameras else None
        )
        for identity, number in rows
    ]


_PAIR = [
    ImageRecord("d/90/a.jpg", 90),
    ImageRecord("d/90/b.jpg", 90),
]  # so that every rule has something to take

RULES = {
    "identities": lambda records, seed: split_identities(
        records, {"train": 0.6, "val": 0.2, "test": 0.2}, seed=seed
    ),
    "first": lambda records, seed: split_first_identities(records),
    "images": lambda records, seed: split_images([*records, *_PAIR], seed=seed),
    "held out": lambda records, seed: hold_out_identities(
        [*records, *_PAIR], fraction=0.05, seed=seed
    ),
    "drawn": lambda records, seed: split_query_gallery([*records, *_PAIR], num_splits=1, seed=seed),
}


@pytest.mark.parametrize("rule", RULES)
@given(sizes=_sizes, seed=st.integers(0, 9))
def test_parts_are_disjoint_and_complete(rule, sizes, seed):
    records = _records(sizes)
    manifest = RULES[rule](records, seed)
    keys = [key for part in manifest.splits.values() for key in part]
    assert len(keys) == len(set(keys))
    assert {f"{r.identity}/{r.path[-5:]}" for r in records} <= set(keys)
    assert manifest == RULES[rule](records, seed)
    assert all(list(part) == sorted(part) and part for part in manifest.splits.values())


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "images"])
@given(sizes=_sizes, order=st.randoms(use_true_random=False))
def test_the_order_of_records_does_not_matter(rule, sizes, order):
    records = _records(sizes)
    mixed = records.copy()
    order.shuffle(mixed)
    assert RULES[rule](mixed, 0) == RULES[rule](records, 0)


@pytest.mark.unhooked  # the hook itself draws from the global state
@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "first"])
def test_another_seed_is_another_split_and_the_global_state_does_not_matter(rule):
    records = _records([4] * 30)
    random.seed(1)
    state = random.getstate()
    splits = {str(RULES[rule](records, seed).splits) for seed in range(4)}
    assert len(splits) == 4
    assert random.getstate() == state
    assert {RULES[rule](records, seed).seed for seed in range(4)} == {0, 1, 2, 3}


@given(sizes=_sizes, seed=st.integers(0, 9))
def test_identities_are_shared_out_whole_and_in_proportion(sizes, seed):
    records = _records(sizes)
    manifest = split_identities(records, {"train": 0.5, "val": 0.25, "test": 0.25}, seed=seed)
    identities = {
        name: {key.split("/")[0] for key in keys} for name, keys in manifest.splits.items()
    }
    assert sum(map(len, identities.values())) == len(sizes)
    for name, fraction in (("train", 0.5), ("val", 0.25), ("test", 0.25)):
        assert abs(len(identities[name]) - fraction * len(sizes)) < 1


def test_every_identity_comes_to_the_test_part_equally_often():
    records = _records([1] * 10)
    seen = Counter(
        key
        for seed in range(400)
        for key in split_identities(records, {"a": 0.7, "b": 0.3}, seed=seed).splits["b"]
    )
    assert len(seen) == 10
    assert all(85 <= count <= 155 for count in seen.values())  # 120 expected, sd 9


@pytest.mark.unhooked
@pytest.mark.parametrize(
    ("fractions", "problem"),
    [
        ({"a": 0.5, "b": 0.4}, r"fractions in \(0, 1\] that sum to 1, got {'a': 0\.5, 'b': 0\.4}"),
        ({"a": 1.5, "b": -0.5}, "that sum to 1"),
        ({}, "that sum to 1"),
        (
            {"a": 0.99, "b": 0.01},
            "images in every part, got none in 'b' of 4 images of 4 identities",
        ),
    ],
)
def test_fractions_that_do_not_work_are_explained(fractions, problem):
    with pytest.raises(ValueError, match=f"split_identities: expected .*{problem}"):
        split_identities(_records([1] * 4), fractions)


def test_the_first_half_is_sorted_as_numbers_or_as_texts_and_rounded_up():
    numbers = [ImageRecord(f"{n}.jpg", n) for n in (10, 9, 100, 1200000, 0)]
    assert split_first_identities(numbers).splits == {
        "train": ("0.jpg", "10.jpg", "9.jpg"), "test": ("100.jpg", "1200000.jpg"),
    }  # fmt: skip
    texts = [ImageRecord(f"{n}.jpg", str(n)) for n in (10, 9, 100)]
    assert split_first_identities(texts, names=("a", "b")).splits == {
        "a": ("10.jpg", "100.jpg"),
        "b": ("9.jpg",),
    }
    with pytest.raises(
        ValueError, match=r"split_first_identities: expected fraction in \(0, 1\), got 1"
    ):
        split_first_identities(texts, fraction=1.0)


@given(sizes=_sizes, seed=st.integers(0, 99), fraction=st.sampled_from([0.2, 0.25, 0.5]))
def test_images_are_taken_in_proportion_and_every_identity_stays(sizes, seed, fraction):
    sizes = [*sizes, 2]
    manifest = split_images(_records(sizes), fraction=fraction, seed=seed)
    taken = Counter(int(key.split("/")[0]) for key in manifest.splits["val"])
    assert taken.total() == -(-sum(size for size in sizes if size > 1) * fraction // 1)
    for identity, size in enumerate(sizes):
        assert taken[identity] < size
        assert size > 1 or taken[identity] == 0
        assert abs(taken[identity] - fraction * size) <= 1.0


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"fraction": 0.0}, r"fraction in \(0, 1\), got 0\.0"),
        ({"seed": 2**32}, r"seed below 2\*\*32"),
        ({"seed": -1}, "seed as a whole number >= 0"),
    ],
)
def test_options_of_split_images(options, problem):
    with pytest.raises(ValueError, match=f"split_images: expected {problem}"):
        split_images(_records([3]), **options)
    with pytest.raises(ValueError, match="an identity with two images or more, got none"):
        split_images(_records([1, 1]))


@given(
    sizes=_sizes,
    cameras=st.sampled_from([None, 2, 3]),
    most=st.integers(1, 4),
    seed=st.integers(0, 9),
)
def test_held_out_identities_make_sound_queries(sizes, cameras, most, seed):
    records = _records([*sizes, 3, 3], cameras)
    manifest = hold_out_identities(records, fraction=0.1, query_images=most, seed=seed)
    applied = apply_split(records, manifest)
    check_splits(applied, query="val_query", gallery="val_gallery", min_images=1)
    queries, gallery = records_of(applied, "val_query"), records_of(applied, "val_gallery")
    assert {r.identity for r in queries} == {r.identity for r in gallery}
    assert max(Counter(r.identity for r in queries).values()) <= most
    assert len({r.identity for r in queries}) == max(1, int(0.1 * (len(sizes) + 2) + 0.5))
    for query in queries:
        others = {r.camera for r in gallery if r.identity == query.identity}
        assert others - {query.camera} or cameras is None


def test_an_identity_of_one_camera_is_not_held_out():
    one = [ImageRecord(f"{n}.jpg", n // 2, camera=0) for n in range(8)]
    with pytest.raises(
        ValueError, match=r"1 identities with images of two cameras .*, got 0\. Hold out fewer"
    ):
        hold_out_identities(one)
    two = [ImageRecord("x.jpg", 9, camera=0), ImageRecord("y.jpg", 9, camera=1)]
    assert {
        r.identity
        for r in apply_split([*one, *two], hold_out_identities([*one, *two]))
        if r.split != "train"
    } == {9}
    with pytest.raises(
        ValueError, match=r"hold_out_identities: expected fraction in \(0, 1\), got 1\.0"
    ):
        hold_out_identities(two, fraction=1.0)


@given(sizes=_sizes, number=st.integers(1, 3), seed=st.integers(0, 9))
def test_a_draw_has_some_gallery_images_of_each_and_all_others_as_queries(sizes, number, seed):
    sizes = [*sizes, 6]
    manifest = split_query_gallery(_records(sizes), num_splits=3, gallery_images=number, seed=seed)
    assert list(manifest.splits) == [
        "query0",
        "gallery0",
        "query1",
        "gallery1",
        "query2",
        "gallery2",
    ]
    for n in range(3):
        gallery = Counter(int(key.split("/")[0]) for key in manifest.splits[f"gallery{n}"])
        assert gallery == {identity: min(size, number) for identity, size in enumerate(sizes)}
        both = {*manifest.splits[f"query{n}"], *manifest.splits[f"gallery{n}"]}
        assert (
            len(both)
            == sum(sizes)
            == len(manifest.splits[f"query{n}"]) + len(manifest.splits[f"gallery{n}"])
        )


def test_distractors_are_in_every_gallery_and_nobody_else():
    records, others = _records([3, 3]), [ImageRecord("d/x/1.jpg", 77), ImageRecord("d/x/2.jpg", 77)]
    manifest = split_query_gallery(records, distractors=others, num_splits=2)
    for n in range(2):
        assert {"x/1.jpg", "x/2.jpg"} <= set(manifest.splits[f"gallery{n}"])
        assert not {"x/1.jpg", "x/2.jpg"} & set(manifest.splits[f"query{n}"])
    with pytest.raises(
        ValueError,
        match="distractors with identities of their own, got 1 that are tested, such as 0",
    ):
        split_query_gallery(records, distractors=[ImageRecord("d/x/1.jpg", 0)])
    with pytest.raises(ValueError, match="images in every part, got none in 'query0' of 2 images"):
        split_query_gallery(_records([1, 1]), num_splits=1)


def _hands(persons=(7, 8, 6, 9), images=3):
    views = ("dorsal_l", "dorsal_r", "palmar_l", "palmar_r")
    return [
        ImageRecord(f"h/{view}_{person}_{n}.jpg", person, view=view)
        for view, count in zip(views, persons, strict=True)
        for person in range(count)
        for n in range(images)
    ]


def test_the_protocol_of_hands():
    manifest = split_hands(_hands(), aspect="dorsal_l", num_splits=10, seed=5)
    sizes = {name: len(keys) for name, keys in manifest.splits.items()}
    assert sizes["train"] == 4 * 2
    assert sizes["val"] == 4
    assert [name for name in sizes if name.startswith("gallery")][:2] == [
        "gallery0",
        "gallery0_all",
    ]
    for n in range(10):
        assert (sizes[f"query{n}"], sizes[f"gallery{n}"]) == (3 * 2, 3)
        assert (
            sizes[f"gallery{n}_all"] == 3 + 4 + 3 + 4
        )  # one of each person in each aspect's second half
    assert len({manifest.splits[f"gallery{n}"] for n in range(10)}) > 3


@settings(max_examples=30)
@given(
    persons=st.lists(st.lists(st.integers(0, 4), min_size=4, max_size=9), min_size=2, max_size=3),
    lone=st.integers(0, 3),
    seed=st.integers(0, 9),
    order=st.randoms(use_true_random=False),
)
def test_parts_of_hands_are_disjoint_complete_and_seeded(persons, lone, seed, order):
    sizes = {f"view{n}": [*counts, 3, 3, 3, 3] for n, counts in enumerate(persons)}
    records = [
        ImageRecord(f"h/{view}_{person}_{n}.jpg", person, view=view)
        for view, counts in sizes.items()
        for person, count in enumerate(counts)
        for n in range(count)
    ]
    records += [
        ImageRecord(f"h/x{n}.jpg", 1500 + n, view="view0", split="distractor") for n in range(lone)
    ]
    manifest = split_hands(records, aspect="view0", num_splits=3, seed=seed)
    mixed = records.copy()
    order.shuffle(mixed)
    assert split_hands(mixed, aspect="view0", num_splits=3, seed=seed) == manifest
    parts = {name: set(keys) for name, keys in manifest.splits.items()}
    assert all(len(keys) == len(manifest.splits[name]) for name, keys in parts.items())
    everyone = {p for p, count in enumerate(sizes["view0"]) if count}
    first = set(sorted(everyone)[: -(-len(everyone) // 2)])
    own = {
        r.path.split("/")[1]: r.identity for r in records if r.view == "view0" and r.split is None
    }
    distractors = {f"x{n}.jpg" for n in range(lone)}
    assert not parts["train"] & parts["val"]
    assert parts["train"] | parts["val"] == {key for key, person in own.items() if person in first}
    for n in range(3):
        query, gallery = parts[f"query{n}"], parts[f"gallery{n}"]
        assert not query & gallery
        assert (
            query | gallery
            == {key for key, person in own.items() if person not in first} | distractors
        )
        assert Counter(own[key] for key in gallery - distractors) == dict.fromkeys(
            everyone - first, 1
        )
        assert gallery < parts[f"gallery{n}_all"]
        assert not {key for key in parts[f"gallery{n}_all"] - gallery if key in own}


def test_official_numbers_of_persons_give_the_protocols_galleries():
    hands = _hands((146, 143, 151, 143), images=2)  # dorsal_l, dorsal_r, palmar_l, palmar_r
    galleries = {"dorsal_l": 73, "dorsal_r": 71, "palmar_l": 75, "palmar_r": 71}
    for aspect, own in galleries.items():
        splits = split_hands(hands, aspect=aspect, num_splits=1).splits
        assert (len(splits["gallery0"]), len(splits["gallery0_all"])) == (own, 290)
    back = [
        ImageRecord(f"h/{n}.jpg", n % 502, view="dorsal_r", split="subject") for n in range(4650)
    ]
    back += [
        ImageRecord(f"h/x{n}.jpg", 1502 + n % 213, view="dorsal_r", split="distractor")
        for n in range(1342)
    ]
    splits = split_hands(back, aspect="dorsal_r", num_splits=1).splits
    assert (len(splits["val"]), len(splits["gallery0"])) == (251, 1593)


def test_persons_of_other_aspects_are_nobodys_match():
    records = _hands()
    applied = apply_split(records, split_hands(records, aspect="dorsal_r", num_splits=2))
    own = {r.identity for r in records_of(applied, "query0")}
    everyone = records_of(applied, "gallery0_all")
    assert own == {r.identity for r in records_of(applied, "gallery0")} == {4, 5, 6, 7}
    strangers = [r for r in everyone if r.view != "dorsal_r"]
    assert not own & {r.identity for r in strangers}
    assert len({r.identity for r in everyone}) == len(everyone)
    assert {(r.view, r.identity // 1_000_000) for r in strangers} == {
        ("dorsal_l", 11),
        ("palmar_l", 21),
        ("palmar_r", 31),
    }
    assert all(r.view == "dorsal_r" for r in applied if not r.split.endswith("_all"))
    check_splits(applied, query="query1", gallery="gallery1_all", min_images=1)


def test_one_aspect_alone_and_distractors():
    records = [r for r in _hands() if r.view == "dorsal_r"]
    others = [
        ImageRecord(f"h/x{n}.jpg", 1500 + n // 2, view="dorsal_r", split="distractor")
        for n in range(5)
    ]
    manifest = split_hands([*records, *others], aspect="dorsal_r", num_splits=1)
    sizes = {name: len(keys) for name, keys in manifest.splits.items()}
    assert sizes == {"train": 8, "val": 4, "query0": 8, "gallery0": 4 + 5}
    assert manifest.identities == {}
    splits = split_hands([*_hands(), *others], aspect="dorsal_r", num_splits=1).splits
    assert len(splits["gallery0"]) == 4 + 5
    assert set(splits["gallery0"]) < set(splits["gallery0_all"])


def test_a_person_with_one_image_is_trained_on():
    counts = [1, 3, 3, 3]
    records = [
        ImageRecord(f"h/{i}_{n}.jpg", i, view="dorsal_x")
        for i, count in enumerate(counts)
        for n in range(count)
    ]
    manifest = split_hands(records, aspect="dorsal_x", num_splits=1)
    assert "0_0.jpg" in manifest.splits["train"]


@pytest.mark.parametrize(
    ("records", "problem"),
    [
        (
            _hands(),
            "records of view 'dorsal', got views 'dorsal_l', 'dorsal_r', 'palmar_l', 'palmar_r'",
        ),
        (
            [ImageRecord("a.jpg", "x", view="dorsal")],
            "persons as whole numbers from 0 to 9999999, got 'x'",
        ),
        (
            [ImageRecord("a.jpg", 10_000_000, view="dorsal")],
            "persons as whole numbers from 0 to 9999999, got 10000000",
        ),
        (
            [ImageRecord("a.jpg", 1, view="dorsal")],
            "images in every part, got none in 'val', 'query0', 'gallery0'",
        ),
    ],
)
def test_hands_that_do_not_work_are_explained(records, problem):
    with pytest.raises(ValueError, match=f"split_hands: expected {problem}"):
        split_hands(records, aspect="dorsal", num_splits=1)
