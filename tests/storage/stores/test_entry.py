"""Entries of listings, and samples that several files make."""

import pickle

from storage.stores.entry import Entry

A, B = Entry("a.png", 3, "x"), Entry("b.png", 4, "y")


def test_a_sample_of_several_files_changes_with_any_of_them_and_has_them_at_hand() -> None:
    sample = Entry.of("both", (A, None, B))
    assert (sample.key, sample.size, sample.parts) == ("both", 7, (A, None, B))
    others = [(A, B, None), (None, None, B), (A, None, Entry("b.png", 4, "z")), (A, None, Entry("b.png", 5, "y"))]
    assert sample.etag not in {Entry.of("both", parts).etag for parts in others}
    assert pickle.loads(pickle.dumps(sample)).parts == sample.parts


def test_the_tag_of_such_a_sample_is_what_receipts_of_reports_have_had_since_version_0_1() -> None:
    assert Entry.of("bicubic/é", (A, None)).etag == '[["a.png",3,"x"],null]'
    assert Entry.of("é", (Entry("é", 1, "t"),)).etag == '[["é",1,"t"]]'
