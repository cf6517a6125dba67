"""The tables of formats agree with each other, with Pillow, and with what results can be."""

import io
from itertools import chain
from typing import get_args

import pytest
from PIL import Image

from storage.images.encode import ENCODERS
from storage.images.formats import FORMATS, UNREAD, Format, ImageFormat, begins, is_image, suffix_of, unread_suffixes


def test_no_suffix_is_in_two_rows() -> None:
    read, unread = ([*chain.from_iterable(form.suffixes for form in forms)] for forms in (FORMATS, UNREAD))
    suffixes = read + unread
    assert len(suffixes) == len(set(suffixes))
    assert all(suffix == suffix.lower() for suffix in suffixes)


def test_results_can_be_of_the_formats_that_have_an_encoder() -> None:
    assert {*get_args(Format)} - {"same"} == ENCODERS.keys()
    assert ENCODERS.keys() <= {form.name for form in FORMATS}


@pytest.mark.parametrize("form", [form for form in FORMATS if form.name != "jpeg-ls"], ids=lambda form: form.name)
def test_what_pillow_writes_is_known_by_its_first_bytes(form: ImageFormat) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 7)).save(buffer, form.pillow)
    data = buffer.getvalue()
    assert suffix_of(data) == form.suffixes[0]
    assert not any(begins(row.magic, data) for row in UNREAD)


def test_names_say_formats() -> None:
    assert all(is_image(f"a/b{suffix.upper()}") for form in FORMATS for suffix in form.suffixes)
    assert not any(is_image(f"a{suffix}") for suffix in unread_suffixes())
    assert not is_image("a/.png")
