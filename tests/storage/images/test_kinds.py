"""Images of unlike kinds are told apart by what their 8-bit RGB pixels do not show."""

import io
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from storage.images.kinds import Kind, unlike

SIZE = (8, 6)
HALF = Image.linear_gradient("L").resize(SIZE)


def file(image: Image.Image, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def tiff(samples: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, samples, **options)
    return buffer.getvalue()


def rgb(mode: str = "RGB") -> Image.Image:
    return Image.new("RGB", SIZE, "teal").convert(mode)


def see_through() -> Image.Image:
    image = rgb()
    image.putalpha(HALF)
    return image


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def profile(name: Literal["sRGB", "XYZ"]) -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile(name)).tobytes()


def palette() -> bytes:
    image = rgb().quantize(4)
    return file(image, transparency=0)


RGBA16 = np.full((*SIZE[::-1], 4), 65535, np.uint16)
CLEAR16 = RGBA16 * np.array([1, 1, 1, 0], np.uint16)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (file(rgb()), {}),
        (file(rgb(), "JPEG"), {}),
        (file(rgb(), "WEBP"), {}),
        (file(rgb("RGBA")), {}),
        (file(see_through()), {"is_transparent": True}),
        (file(see_through(), "WEBP"), {"is_transparent": True}),
        (palette(), {"is_transparent": True}),
        (file(rgb("L")), {"colours": "grey"}),
        (file(rgb("1")), {"colours": "grey"}),
        (file(rgb("I;16")), {"colours": "grey", "depth": 16}),
        (file(rgb("CMYK"), "JPEG"), {"colours": "CMYK"}),
        (file(rgb("CMYK"), "TIFF"), {"colours": "CMYK"}),
        (file(rgb(), "JPEG", exif=turned(6)), {"orientation": 6}),
        (file(rgb(), "PNG", exif=turned(3)), {"orientation": 3}),
        (file(rgb(), "GIF", save_all=True, append_images=[Image.new("RGB", SIZE)]), {"has_frames": True}),
        (file(rgb(), "WEBP", save_all=True, append_images=[Image.new("RGB", SIZE)]), {"has_frames": True}),
        (file(rgb(), "TIFF", save_all=True, append_images=[Image.new("RGB", SIZE)]), {"has_frames": True}),
        (file(rgb(), icc_profile=profile("sRGB")), {}),
        (file(rgb(), icc_profile=b"no profile"), {}),
        (tiff(RGBA16[..., :3], photometric="rgb"), {"depth": 16}),
        (tiff(RGBA16, photometric="rgb", extrasamples=["unassalpha"]), {"depth": 16}),
        (
            tiff(CLEAR16, photometric="rgb", extrasamples=["unassalpha"]),
            {"depth": 16, "is_transparent": True},
        ),
        (b"no image", {}),
    ],
)
def test_the_kind_of_an_image(data: bytes, expected: Mapping[str, object]) -> None:
    found = Kind.of(data)
    assert {name: value for name, value in vars(found).items() if value != getattr(Kind(), name)} == expected


def test_colour_profiles_are_told_apart_by_what_they_say_they_are() -> None:
    lab = Kind.of(file(rgb(), icc_profile=profile("XYZ")))
    assert lab.profile
    assert lab != Kind()


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        ({}, {}, []),
        ({"depth": 16}, {}, ["HR has 16 bits a sample, SR 8: compared in 8 bits"]),
        ({}, {"depth": 16}, ["HR has 8 bits a sample, SR 16: compared in 8 bits"]),
        ({"is_transparent": True}, {}, ["HR is transparent in parts, SR is not: compared over white"]),
        ({}, {"is_transparent": True}, ["SR is transparent in parts, HR is not: compared over white"]),
        (
            {"is_transparent": True},
            {"is_transparent": True},
            ["transparency is laid over white, and not compared"],
        ),
        ({"colours": "grey"}, {}, ["HR is grey, SR RGB: compared as RGB"]),
        ({"colours": "CMYK", "profile": "press"}, {}, ["HR is CMYK, SR RGB: compared as RGB"]),
        (
            {"profile": "Adobe RGB"},
            {},
            ["HR and SR have different colour profiles: compared as if they had the same"],
        ),
        ({"orientation": 3}, {}, ["HR and SR have different EXIF orientations: both are compared upright"]),
        ({"has_frames": True}, {}, ["HR has several frames or pages: one is compared"]),
        ({}, {"has_frames": True}, ["SR has several frames or pages: one is compared"]),
        ({"has_frames": True}, {"has_frames": True}, ["both have several frames or pages: one is compared"]),
    ],
)
def test_what_is_unlike_is_said(one: Mapping[str, Any], other: Mapping[str, Any], said: list[str]) -> None:
    assert list(unlike(Kind(**one), Kind(**other), "HR")) == said
