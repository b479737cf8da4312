"""Records for the tests of splits."""

from hypothesis import strategies as st

from clipreid_kit.data import ImageRecord

sizes = st.lists(st.integers(1, 6), min_size=6, max_size=20)
"""Numbers of images of several identities."""


def records_of_sizes(sizes, cameras=None):
    """As many images of each identity as ``sizes`` says, by cameras in turn."""
    records = []
    for identity, size in enumerate(sizes):
        for number in range(size):
            camera = number % cameras if cameras else None
            records.append(ImageRecord(f"d/{identity}/{number}.jpg", identity, camera=camera))
    return records


def identity_of(key):
    """The identity of an image of these records, from its name in a manifest."""
    return int(key.split("/")[0])
