from collections import Counter

import numpy as np
from every_sampler import pk_options

from clipreid_kit.samplers._pk_epoch import PKEpoch
from clipreid_kit.samplers._rows_by_identity import RowsByIdentity


def epoch_of(labels, num_batches):
    options = pk_options(num_identities=4)
    rows = RowsByIdentity(labels, None, None, options)
    return PKEpoch(rows, rows.count, num_batches, options, epoch=0)


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
