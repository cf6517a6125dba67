"""Results are called as their sources, and two sources never give one name."""

from pathlib import PurePosixPath

from hypothesis import given
from hypothesis import strategies as st

from flows.inputs.keys import Names, alike, normalized
from storage.images.encode import Encoding
from storage.stores.location import Entry


def entries(*keys: str) -> list[Entry]:
    return [Entry(key, 1, "") for key in sorted(keys)]


def names(*keys: str, form: str = "png", suffix: str = "") -> dict[str, str]:
    planned = Names(Encoding(form).suffix, suffix).among(sorted(keys))  # type: ignore[arg-type]
    return {key: planned.of(key) for key in keys}


def test_a_result_has_its_source_s_name_with_the_ending_of_its_format() -> None:
    assert names("a.png", "b/c.v2.JPG") == {"a.png": "a.png", "b/c.v2.JPG": "b/c.v2.png"}
    assert names("b/c.v2.JPG", form="jpeg") == {"b/c.v2.JPG": "b/c.v2.jpg"}
    assert names("a.JPG", "b.gif", "c.tiff", form="same") == {"a.JPG": "a.JPG", "b.gif": "b.png", "c.tiff": "c.tiff"}


def test_a_suffix_comes_before_the_ending() -> None:
    assert names("x/a.jpg", suffix="_x4") == {"x/a.jpg": "x/a_x4.png"}


def test_of_two_that_would_have_one_name_the_one_with_the_ending_keeps_it() -> None:
    assert names("a.jpg", "a.png", "a.webp") == {"a.jpg": "a.jpg.png", "a.png": "a.png", "a.webp": "a.webp.png"}
    assert names("a.bmp", "a.jpg") == {"a.bmp": "a.png", "a.jpg": "a.jpg.png"}
    assert names("a.gif", "a.png", form="same") == {"a.gif": "a.gif.png", "a.png": "a.png"}
    assert names("a.jpg", "a.png", form="same") == {"a.jpg": "a.jpg", "a.png": "a.png"}
    assert names("a.jpg", "a.png", suffix="_x4") == {"a.jpg": "a_x4.jpg.png", "a.png": "a_x4.png"}


def test_endings_in_capitals_are_told_apart() -> None:
    assert names("a.PNG", "a.png") == {"a.PNG": "a.PNG.png", "a.png": "a.png"}


def test_a_name_that_is_another_s_gets_the_ending_once_more() -> None:
    assert names("a.jpg", "a.jpg.png", "a.png") == {
        "a.jpg": "a.jpg.png.png",
        "a.jpg.png": "a.jpg.png",
        "a.png": "a.png",
    }


part = st.text("ab.-_", min_size=1, max_size=3)
key = st.builds(
    lambda folders, name, ending: "/".join([*folders, name]) + ending,
    st.lists(part, max_size=2),
    part,
    st.sampled_from([".png", ".PNG", ".jpg", ".jpeg", ".gif", ".tif", ".jpg.png"]),
)


@given(st.sets(key, max_size=12), st.sampled_from(["png", "same", "jpeg"]), st.sampled_from(["", "_x4", ".b"]))
def test_no_two_sources_ever_have_one_name(keys: set[str], form: str, suffix: str) -> None:
    keys = {key for key in keys if not PurePosixPath(key).name.startswith(".")}
    assert len(set(names(*keys, form=form, suffix=suffix).values())) == len(keys)


def test_a_key_is_meant_by_one_of_another_unicode_form() -> None:
    composed, apart = "caf\u00e9.png", "cafe\u0301.png"
    assert normalized(apart) == composed
    assert alike([composed, "a.png", "gone.png"], ["a.png", apart]) == {composed: [apart]}
    assert alike([apart], [composed]) == {apart: [composed]}
    assert alike([composed], [composed, apart]) == {}
    angstrom, forms = "\u212b.png", ["\u00c5.png", "A\u030a.png"]
    assert alike([angstrom], forms) == {angstrom: forms}
