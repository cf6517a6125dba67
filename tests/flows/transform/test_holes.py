"""Where the holes of an image are: white in its mask, or transparent; what is no such mask says why."""

import io

import numpy as np
import pytest
from PIL import Image

from flows.transform.holes import hole_in, without_transparency
from flows.transform.loaded import FetchedMask
from storage.images.formats import ImageError
from storage.images.photo import open_photo
from storage.stores.entry import Entry


def mask(image: Image.Image, kind: str = "PNG") -> FetchedMask:
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return FetchedMask(Entry("m.png", 1, ""), buffer.getvalue(), "")


def square(mode: str = "L") -> Image.Image:
    """Black, and white in the upper left quarter."""
    return Image.fromarray(np.pad(np.full((4, 6), 255, np.uint8), ((0, 4), (0, 6)))).convert(mode)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "I;16"])
def test_white_is_a_hole_in_every_kind_of_mask(mode: str) -> None:
    deep = Image.fromarray(np.asarray(square()).astype(np.uint16) * 257)
    found = hole_in(mask(deep if mode == "I;16" else square(mode)), (8, 12))
    assert np.array_equal(found, np.asarray(square()) > 0)


def test_what_a_jpeg_or_a_soft_brush_made_of_white_is_a_hole_from_the_middle_on() -> None:
    assert np.array_equal(hole_in(mask(square(), "JPEG"), (8, 12)), np.asarray(square()) > 0)
    ramp = Image.fromarray(np.array([[0, 127, 128, 255]], np.uint8))
    assert hole_in(mask(ramp), (1, 4)).tolist() == [[False, False, True, True]]


def test_white_that_is_transparent_is_no_hole() -> None:
    strokes = Image.new("RGBA", (12, 8), (255, 255, 255, 0))
    strokes.paste((255, 255, 255, 255), (0, 0, 6, 4))
    assert np.array_equal(hole_in(mask(strokes), (8, 12)), np.asarray(square()) > 0)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (Image.new("L", (3, 2), 255), "its mask m.png has 3×2 pixels, and the image 12×8"),
        (Image.new("L", (12, 8), 0), "masks nothing: no pixel is white"),
        (Image.new("L", (12, 8), 255), "masks all of the image"),
    ],
)
def test_a_mask_that_does_not_fit_says_why(image: Image.Image, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        hole_in(mask(image), (8, 12))


def test_a_mask_of_another_size_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a mask, no memory is claimed beyond that of an image of its size."""
    monkeypatch.setattr("flows.transform.holes.open_photo", lambda _: pytest.fail("unpacked"))
    with pytest.raises(ImageError, match=r"its mask m\.png has 4000×3000 pixels, and the image 12×8"):
        hole_in(mask(Image.new("1", (4000, 3000))), (8, 12))


def test_a_mask_that_is_turned_by_its_exif_data_fits_as_it_is_seen() -> None:
    turned, exif = square().rotate(90, expand=True), Image.Exif()
    exif[0x0112] = 6  # a quarter turn to the right
    buffer = io.BytesIO()
    turned.save(buffer, "PNG", exif=exif)
    found = hole_in(FetchedMask(Entry("m.png", 1, ""), buffer.getvalue(), ""), (8, 12))
    assert np.array_equal(found, np.asarray(square()) > 0)


def test_a_mask_that_is_no_image_is_named() -> None:
    with pytest.raises(ImageError, match=r"its mask m\.png: "):
        hole_in(FetchedMask(Entry("m.png", 1, ""), b"no image", ""), (8, 12))


def photograph(alpha: Image.Image) -> bytes:
    image = Image.new("RGB", alpha.size, "teal")
    image.putalpha(alpha)
    return mask(image).data


def test_what_is_wholly_transparent_is_a_hole_and_then_opaque() -> None:
    alpha = np.full((8, 12), 255, np.uint8)
    alpha[:2], alpha[2] = 0, 40
    filled, hole = without_transparency(open_photo(photograph(Image.fromarray(alpha))))
    assert np.array_equal(hole, alpha == 0)
    assert filled.alpha is not None
    assert set(filled.alpha[0]) == {255}
    assert set(filled.alpha[2]) == {40}
    alpha[2] = 255
    filled, _ = without_transparency(open_photo(photograph(Image.fromarray(alpha))))
    assert filled.alpha is None


@pytest.mark.parametrize(("alpha", "reason"), [(255, "no pixel is transparent"), (0, "all of the image is")])
def test_an_image_without_a_hole_or_without_anything_else_says_so(alpha: int, reason: str) -> None:
    with pytest.raises(ImageError, match=reason):
        without_transparency(open_photo(photograph(Image.new("L", (3, 3), alpha))))
