from clipreid_kit.clip import ImportReport


def test_summary_names_at_most_five_of_a_kind():
    report = ImportReport(
        {"a": "x.a"}, {"cameras": "no ViT"}, tuple("bcdefg"), missing=("x.scale",)
    )
    assert report.summary().splitlines() == [
        "1 tensors loaded",
        "1 dropped: cameras (no ViT)",
        "6 unexpected: b, c, d, e, f, ...",
        "1 missing: x.scale",
    ]
    assert repr(report) == "ImportReport(loaded: 1, dropped: 1, unexpected: 6, missing: 1)"


def test_an_import_without_drops_or_gaps_is_complete():
    assert ImportReport({"a": "x.a"}, {"b": "no use"}).is_complete
    assert not ImportReport({"a": "x.a"}, unexpected=("b",)).is_complete
    assert not ImportReport({"a": "x.a"}, missing=("b",)).is_complete
