"""FFHQ's names, metadata and split: read whole or refused in one line, in little memory, the same everywhere."""

import io
import json
import random
import tracemalloc
from itertools import pairwise
from typing import Any

import ijson
import pytest

from storage.shards import ffhq
from storage.shards.ffhq import Origin, by_hash, check_large, image_number, published, read_metadata
from storage.stores.location import StorageError

NAME = "s3://bucket/ffhq/ffhq-dataset-v2.json"
LANDMARKS = [[131.62 + i, 453.8 - i] for i in range(68)]
TAKEN = {
    "photo_url": "https://www.flickr.com/photos/frumkin/1133484654/",
    "photo_title": "DSCF0899.JPG",
    "author": "Jérémy 😀",
    "country": "",
    "license": "Attribution-NonCommercial License",
    "license_url": "https://creativecommons.org/licenses/by-nc/2.0/",
    "date_uploaded": "2007-08-16",
    "date_crawled": "2018-10-10",
}
IMAGES = 70_000
KEYS = [f"{number // 1000 * 1000:05}/{number:05}.png" for number in range(IMAGES)]


@pytest.fixture(params=["yajl2_c", "python"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read with ijson's C part, and as a machine without it does."""
    monkeypatch.setattr(ijson, "basic_parse", ijson.get_backend(request.param).basic_parse)


def entry(number: int = 0, **changes: object) -> dict[str, Any]:
    """Return an entry as published; its metadata with `changes`."""

    def file(folder: str) -> dict[str, Any]:
        path = f"{folder}/{number // 1000 * 1000:05}/{number:05}.png"
        return {"file_path": path, "file_size": 1488194, "file_md5": "ddeaeea6", "pixel_size": [1024, 1024]}

    return {
        "category": "training" if number < 60_000 else "validation",
        "metadata": TAKEN | changes,
        "image": file("images1024x1024") | {"face_landmarks": LANDMARKS},
        "thumbnail": file("thumbnails128x128"),
        "in_the_wild": file("in-the-wild-images") | {"face_rect": [1, 2, 3, 4], "face_landmarks": LANDMARKS},
    }


def read(document: object) -> dict[int, Origin]:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return read_metadata(io.BytesIO(data), NAME)


def refusal(document: object) -> str:
    """Return what is said against a document, after its name."""
    with pytest.raises(StorageError) as caught:
        read(document)
    message = str(caught.value)
    assert message.startswith(f"{NAME}: ")
    assert message.isprintable()  # so it is one line
    assert len(message) < 200
    return message.removeprefix(f"{NAME}: ")


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize("ascii_only", [True, False])
def test_author_licence_address_and_split_are_kept_by_number(ascii_only: bool) -> None:
    document = {str(n): entry(n, author=f"Jérémy {n} 😀") for n in (0, 42, 59_999, 60_000)}
    origins = read(json.dumps(document, ensure_ascii=ascii_only, indent=1).encode())
    assert list(origins) == [0, 42, 59_999, 60_000]
    assert origins[42] == Origin("Jérémy 42 😀", TAKEN["license"], TAKEN["license_url"], TAKEN["photo_url"], "train")
    assert [origins[n].split for n in origins] == ["train", "train", "train", "validation"]


def test_what_the_metadata_says_of_the_split_is_what_the_numbers_say() -> None:
    origins = read({str(n): entry(n) for n in range(59_990, 60_010)})
    assert {n: origin.split for n, origin in origins.items()} == {n: published(f"{n}.png") for n in origins}


@pytest.mark.usefixtures("backend")
def test_missing_null_and_empty_fields_are_none() -> None:
    origins = read({"1": {"metadata": {}}, "2": {"metadata": {"author": None, "license": ""}, "category": None}})
    assert origins == {1: Origin(None, None, None, None, None), 2: Origin()}


@pytest.mark.usefixtures("backend")
def test_unknown_fields_are_passed_over_whatever_they_hold() -> None:
    odd = {"author": 3, "metadata": [{"license": {}}], "category": {"deep": [None, True, 1.5e-7]}}
    document = {"7": {"odd": odd, "more": [], "metadata": TAKEN | {"odd": odd, "more": "text"}, "last": odd}}
    assert read(document)[7].author == TAKEN["author"]
    assert read(document)[7].license == TAKEN["license"]


def test_equal_texts_are_one_object() -> None:
    first, second = read({"1": entry(1), "2": entry(2)}).values()
    assert first.license is second.license
    assert first.license_url is second.license_url
    assert first.author is second.author


@pytest.mark.usefixtures("backend")
def test_half_a_surrogate_pair_becomes_a_question_mark() -> None:
    assert read({"1": entry(author="\ud83d!")})[1].author == "?!"


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ([entry()], "the file is no object"),
        ("text", "the file is no object"),
        ({}, "no entries"),
        ({"images": [entry()]}, "'images' is no image's number"),
        ({"-1": entry()}, "'-1' is no image's number"),
        ({"²": entry()}, "'²' is no image's number"),
        ({"a\nb" * 1000: entry()}, "is no image's number"),
        ({"9" * 5000: entry()}, "is no image's number"),
        ({"1": entry(), "01": entry()}, "entry 1 is there twice"),
        ({"3": [entry()]}, "entry 3 is no object"),
        ({"3": None}, "entry 3 is no object"),
        ({"3": {"category": "training"}}, "entry 3 has no metadata"),
        ({"3": entry() | {"metadata": "none"}}, "entry 3: metadata is no object"),
        ({"3": entry() | {"metadata": None}}, "entry 3: metadata is no object"),
        ({"3": entry() | {"category": "test"}}, "entry 3: category is neither training nor validation"),
        ({"3": entry() | {"category": ["training"]}}, "entry 3: category is no text"),
        ({"3": entry(author=42)}, "entry 3: metadata: author is no text"),
        ({"3": entry(license=["by"])}, "entry 3: metadata: license is no text"),
        ({"3": entry(license_url={})}, "entry 3: metadata: license_url is no text"),
        ({"3": entry(photo_url=False)}, "entry 3: metadata: photo_url is no text"),
    ],
)
def test_json_of_another_shape_is_refused_with_the_place(document: object, reason: str) -> None:
    message = refusal(document)
    assert message.startswith("not FFHQ's metadata: ")
    assert message.endswith(reason)


@pytest.mark.usefixtures("backend")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html><title>Google Drive - Quota exceeded</title>",
        b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
        b"\x00" * 4096,
        json.dumps({"1": entry()}).encode("utf-16"),
        json.dumps({"1": entry()}).encode() + b"{}",
        b"{'1': {}}",
        b'{"1": {"metadata": {"author": "\xff"}}}',
        b'{"1": {"metadata": {"author": "\xed\xa0\x80"}}}',
        b'{"1": {"metadata": {"author": "\\x"}}}',
        b'{"1": {"metadata": {"author": "a\nb"}}}',
        b'{"1": {"metadata": {}, "size": 1e999}}',
    ],
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    assert refusal(data).startswith("no JSON, or broken after ")


@pytest.mark.usefixtures("backend")
def test_a_file_cut_off_at_any_byte_is_refused() -> None:
    whole = json.dumps({"1": {"metadata": TAKEN}, "2": {"category": "training", "metadata": {}, "x": [1]}}).encode()
    assert len(read(whole)) == 2
    said = [refusal(whole[:length]) for length in range(len(whole))]
    assert all(message.startswith("no JSON, or broken after ") for message in said)
    assert said[0].endswith(" 0 entries; download it again")
    assert said[-1].endswith(" 2 entries; download it again")


@pytest.mark.slow
@pytest.mark.usefixtures("backend")
def test_a_damaged_file_is_read_or_refused_and_nothing_else() -> None:
    whole = json.dumps({str(n): {"category": "training", "metadata": TAKEN, "x": [[1.5, -2]]} for n in range(3)})
    chance = random.Random(0)
    read_anyway = 0
    for _ in range(2_000):
        data = bytearray(whole.encode())
        for _ in range(chance.randint(1, 3)):
            start = chance.randrange(len(data))
            stop = start + chance.choice([0, 1, 1, 1, 20, 200])
            data[start:stop] = chance.choice([b"", chance.randbytes(1), chance.choice(b'{}[]",:\\0e-').to_bytes()])
        try:
            origins = read(bytes(data))
        except StorageError:
            refusal(bytes(data))
        else:
            read_anyway += 1
            assert all(isinstance(number, int) for number in origins)
            assert all(isinstance(origin, Origin) for origin in origins.values())
    assert 0 < read_anyway < 2_000


class Stream(io.RawIOBase):
    """A file that is made while it is read, and counts its bytes."""

    def __init__(self, start: bytes, repeated: bytes, times: int, end: bytes) -> None:
        self.parts = iter([start, *[repeated] * times, end])
        self.rest = b""
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        self.rest = self.rest or next(self.parts, b"")
        count = min(len(buffer), len(self.rest))
        buffer[:count], self.rest = self.rest[:count], self.rest[count:]
        self.count += count
        return count


@pytest.mark.slow
def test_memory_does_not_grow_with_what_is_not_kept() -> None:
    marks = json.dumps(LANDMARKS).encode()[1:-1] + b", "
    stream = Stream(b'{"1": {"metadata": {}, "landmarks": [', marks, 5_000, b"1]}}")
    tracemalloc.start()
    try:
        origins = read_metadata(io.BufferedReader(stream), NAME)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert origins == {1: Origin()}
    assert stream.count > 5_000_000
    assert peak < 2_000_000


@pytest.mark.usefixtures("backend")
def test_what_is_nested_deep_needs_no_stack_and_little_memory() -> None:
    data = b'{"1": {"x": ' + b"[" * 5_000 + b"]" * 5_000 + b', "metadata": {"author": "me"}}}'
    tracemalloc.start()
    try:
        origins = read(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert origins == {1: Origin("me")}
    assert peak < 5_000_000


@pytest.mark.usefixtures("backend")
def test_a_large_file_of_another_shape_is_refused_at_its_start() -> None:
    stream = Stream(b'{"annotations": [', b'{"id": 1}, ' * 6_000, 1_000, b"1]}")
    with pytest.raises(StorageError, match="'annotations' is no image's number"):
        read_metadata(io.BufferedReader(stream), NAME)
    assert stream.count < 200_000


def test_more_than_metadata_ever_are_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_large(NAME, 255_000_000)
    with pytest.raises(StorageError, match=f"{NAME}: 10,000,000,000 bytes, and FFHQ's metadata have "):
        check_large(NAME, 10**10)
    monkeypatch.setattr(ffhq, "MAX_ENTRIES", 2)
    entries = ", ".join(f'"{number}": {{"metadata": {{}}}}' for number in range(3))
    with pytest.raises(StorageError, match="more than 2 entries"):
        read(f"{{{entries}}}".encode())


@pytest.mark.parametrize(
    ("key", "number"),
    [
        ("00000/00042.png", 42),
        ("images1024x1024/42000/42042.png", 42_042),
        ("images1024x1024/00042.png", 42),
        ("00042.jpg", 42),
        ("shards/000000042.png", 42),
        ("69999", 69_999),
        ("00000.png", 0),
        ("00000/portrait.png", None),
        ("42000/img42.png", None),
        ("00042.seed1.png", None),
        ("-42.png", None),
        ("4_2.png", None),
        ("٤٢.png", None),
        (".png", None),
        ("42 .png", None),
        ("4" * 5_000 + ".png", None),
    ],
)
def test_an_images_number_is_its_name(key: str, number: int | None) -> None:
    assert image_number(key) == number


@pytest.mark.parametrize(
    ("key", "split"),
    [
        ("00000/00000.png", "train"),
        ("59000/59999.png", "train"),
        ("60000/60000.png", "validation"),
        ("thumbnails128x128/69000/69999.png", "validation"),
        ("000059999.jpg", "train"),
    ],
)
def test_the_published_split_is_the_first_60_000_and_the_others(key: str, split: str) -> None:
    assert published(key) == split


@pytest.mark.parametrize("key", ["friends/anna.png", "two\nlines.png"])
def test_the_published_split_refuses_names_that_are_no_numbers_and_says_what_to_use(key: str) -> None:
    with pytest.raises(StorageError, match="published split; split by hash instead") as caught:
        published(key)
    assert str(caught.value).startswith(repr(key))
    assert str(caught.value).isprintable()


def test_the_split_by_hash_is_the_same_on_every_machine() -> None:
    """By the start of the stem's SHA-256, which `sha256sum` gives, too."""
    assert [n for n in range(12) if by_hash(KEYS[n], 0.3) == "validation"] == [2, 3, 7, 9, 10]
    assert by_hash("Zürich/été 😀.jpg", 0xAA25 / 2**16) == "validation"
    assert by_hash("Zürich/été 😀.jpg", 0xAA23 / 2**16) == "train"


def test_the_split_by_hash_does_not_know_the_suffix() -> None:
    assert [by_hash(key, 0.5) for key in KEYS[:200]] == [
        by_hash(key.replace(".png", suffix), 0.5)
        for key, suffix in zip(KEYS[:200], [".jpg", ".PNG", ".webp", ""] * 50, strict=True)
    ]


def test_the_split_by_hash_knows_the_folder() -> None:
    """Where each person has a folder, `1.png` is not on one side for all of them."""
    assert {by_hash(f"person{n}/1.png", 0.5) for n in range(20)} == {"train", "validation"}


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.001, 0.1, 1 / 7, 0.5, 0.9])
def test_the_split_by_hash_has_its_share_within_four_standard_errors(share: float) -> None:
    error = (share * (1 - share) / len(KEYS)) ** 0.5
    for keys in (KEYS, [f"{n}.png" for n in range(IMAGES)]):
        found = sum(by_hash(key, share) == "validation" for key in keys) / len(keys)
        assert abs(found - share) < 4 * error


def test_a_greater_share_takes_more_and_gives_none_back() -> None:
    chosen = [{key for key in KEYS[:5_000] if by_hash(key, share) == "validation"} for share in (0.05, 0.1, 0.5)]
    assert all(less < more for less, more in pairwise(chosen))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 10.0, float("nan")])
def test_a_share_that_is_no_part_is_refused(share: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        by_hash("00042.png", share)
