"""What Milvus cannot compare is refused."""

from datetime import date

import pytest

from clipreid_kit.retrieval import Between, Not
from clipreid_kit.retrieval.engines.milvus_conditions import expression


def test_ranges_of_dates_are_refused():
    for condition in (Between(date(2026, 2, 1), None), Not(Between(None, date(2026, 2, 1)))):
        with pytest.raises(ValueError, match="Pass the ends of the range as text"):
            expression([{"taken": condition}], ["path", "taken"])
