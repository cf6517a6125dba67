"""Seeds and samples: what a key's seed is, and what a sample's tag changes with."""

import hashlib
from dataclasses import replace

from flows.generation.seeds import key_of, seed_of, seeded, started_from
from storage.stores.location import Entry


def test_a_seed_is_the_first_62_bits_of_the_hash_of_the_runs_seed_and_the_key() -> None:
    bits = bin(int(hashlib.sha256(b"7/00000042").hexdigest(), 16))[2:].zfill(256)
    assert seed_of(7, key_of(42)) == int(bits[:62], 2)


def test_samples_are_the_same_however_many_there_are() -> None:
    assert seeded(1, 5) == seeded(1, 9)[:5]
    assert [sample.key for sample in seeded(1, 2)] == ["00000000", "00000001"]
    assert not {sample.etag for sample in seeded(1, 50)} & {sample.etag for sample in seeded(2, 50)}


def test_a_sample_that_starts_from_an_image_changes_with_it() -> None:
    one, two = Entry("a.png", 5, "x"), Entry("b.png", 6, "y")
    samples = started_from([one, two], 0, 3)
    assert [sample.parts for sample in samples] == [(one,), (two,), (one,)]
    assert len({sample.etag for sample in samples}) == 3
    changed = started_from([replace(one, etag="z"), two], 0, 3)
    assert [before == after for before, after in zip(samples, changed, strict=True)] == [False, True, False]
