from collections import Counter

import numpy as np

from clipreid_kit.samplers._pk_epoch import PKEpoch
from clipreid_kit.samplers._rows_by_identity import RowsByIdentity


def epoch_of(labels, num_batches, **options):
    rows = RowsByIdentity("owner", labels, None, num_instances=1, if_too_few="repeat")
    options = {"seed": 0, "epoch": 0, "rank": 0, "world_size": 1, "covers_images": True, **options}
    return PKEpoch(rows, rows.count, num_batches, 4, **options)


def test_the_reserve_gives_each_identity_equally_often():
    # Nine parts in nine batches of four: three of each batch come from the reserve.
    labels = list(range(9))
    batches = epoch_of(labels, 9).batches(0, 9)

    count = Counter(row for batch in batches for row in batch)
    assert all(len(set(batch)) == 4 for batch in batches)
    assert sum(count.values()) == 36
    assert min(count.values()) >= 2


def test_any_range_of_batches_equals_that_of_all():
    labels = np.arange(60) // 3
    whole = epoch_of(labels, 17).batches(0, 17)
    assert epoch_of(labels, 17).batches(5, 12) == whole[5:12]
    assert epoch_of(labels, 17).batches(16, 17) == whole[16:]
