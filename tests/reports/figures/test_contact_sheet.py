"""The contact sheet shows the images themselves, each in its column, with its numbers."""

import io
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from reports.figures import contact_sheet as module
from reports.figures.contact_sheet import GAP, MARGIN, TALLEST, contact_sheet
from reports.figures.fonts import Face
from reports.figures.gallery import GalleryImage, GalleryItem, Role, chosen_metrics
from reports.figures.style import ALARM, EMPTY, INK, MUTED, cut

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def png(width: int, height: int, colour: str | tuple[int, int, int]) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height), colour).save(file, "PNG")
    return file.getvalue()


def left(column: int, wide: int = 256) -> int:
    return MARGIN + column * (wide + GAP)


def places(sheet: Image.Image, colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (np.array(sheet) == colour).all(axis=-1)
    return found


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[list[tuple[str, str, bool]]]:
    """What the sheet writes, line by line: text as asked for, colour, bold."""
    lines: list[list[tuple[str, str, bool]]] = []
    write = module._write

    def noting(draw: Any, corner: Any, width: int, pieces: Any, *rest: Any, **more: Any) -> None:
        lines.append([tuple(piece) for piece in pieces])
        write(draw, corner, width, pieces, *rest, **more)

    monkeypatch.setattr(module, "_write", noting)
    return lines


def test_images_stand_in_columns_enlarged_pixel_by_pixel(gallery: list[GalleryItem]) -> None:
    sheet = contact_sheet(gallery[:1])
    assert sheet.width == 2 * MARGIN + 5 * 256 + 4 * GAP
    pixels = np.array(sheet)
    tops = set()
    for column, image in enumerate(gallery[0].images):
        original = np.array(Image.open(io.BytesIO(image.png)))
        zoom = 256 // original.shape[1]
        large = original.repeat(zoom, axis=0).repeat(zoom, axis=1)
        across = pixels[:, left(column) : left(column) + 256]
        tops |= {top for top in range(len(across) - 255) if np.array_equal(across[top : top + 256], large)}
    assert len(tops) == 1


def test_the_sheet_is_white_around_and_ends_below_the_last_caption(gallery: list[GalleryItem]) -> None:
    sheet = np.array(contact_sheet(gallery))
    for edge in (sheet[:MARGIN], sheet[-MARGIN:], sheet[:, :MARGIN], sheet[:, -MARGIN:]):
        assert (edge == 255).all()
    assert (sheet[-32 - MARGIN : -MARGIN] < 128).any()  # the last numbers


def test_the_protocol_stands_at_the_head(gallery: list[GalleryItem], written: list[Any]) -> None:
    contact_sheet(gallery)
    assert written[0][0][0].startswith("Protocol: antialias · ×4")
    assert written[1][0][0].endswith("PSNR (dB) ↑ / LPIPS ↓, the best in bold")
    assert [line[0][0] for line in written[2:7]] == ["LR", "nearest", "bilinear", "bicubic", "HR"]


def test_the_best_of_each_number_is_in_bold_ink(gallery: list[GalleryItem], written: list[Any]) -> None:
    item = gallery[0]
    contact_sheet([item])
    rows = [image.metrics for image in item.images if image.metrics]
    psnr, lpips = max(row["psnr"] for row in rows), min(row["lpips"] for row in rows)
    numbers = [line for line in written if len(line) == 3]
    assert len(numbers) == 3
    for line, row in zip(numbers, rows, strict=True):
        assert [text for text, _, _ in line] == [f"{row['psnr']:.2f}", " / ", f"{row['lpips']:.4f}"]
        assert line[0][1:] == ((INK, True) if row["psnr"] == psnr else (MUTED, False))
        assert line[2][1:] == ((INK, True) if row["lpips"] == lpips else (MUTED, False))


def test_without_ground_truth_the_numbers_that_there_are_are_shown(written: list[Any]) -> None:
    row = {"status": "ok", "protocol": "antialias", "scale": 2.0, "psnr": None, "consistency": 0.25, "lpips": None}
    sheet = contact_sheet(
        [
            GalleryItem(
                "a", [GalleryImage("LR", png(8, 8, "red"), role="lr"), GalleryImage("x", png(16, 16, "red"), row)]
            )
        ]
    )
    assert sheet.width == 2 * MARGIN + 2 * 256 + GAP
    assert [("2.50e-01", INK, True)] in written


def test_metrics_that_no_image_has_are_not_chosen(gallery: list[GalleryItem]) -> None:
    assert [metric.name for metric in chosen_metrics(gallery)] == ["psnr", "lpips"]
    assert [metric.name for metric in chosen_metrics(gallery, ("ssim",))] == ["ssim"]
    assert chosen_metrics([GalleryItem("a", [GalleryImage("LR", png(8, 8, "red"), role="lr")])]) == []


@pytest.mark.slow
def test_a_missing_image_leaves_its_cell_empty_and_says_so(written: list[Any]) -> None:
    columns: dict[str, Role] = {"LR": "lr", "x": "sr", "y": "sr", "HR": "hr"}
    whole = GalleryItem("a", [GalleryImage(label, png(64, 64, "red"), role=role) for label, role in columns.items()])
    del columns["x"]
    lacking = GalleryItem(
        "b", [GalleryImage(label, png(64, 64, "blue"), role=role) for label, role in columns.items()]
    )
    sheet = contact_sheet([lacking, whole])
    drawn = [slice(left(column), left(column) + 256) for column in range(4)]
    assert [int(places(sheet, BLUE)[:, column].sum()) for column in drawn] == [256**2, 0, 256**2, 256**2]
    assert [int(places(sheet, RED)[:, column].sum()) for column in drawn] == [256**2] * 4
    assert [("no image", MUTED, False)] in written


def test_a_failed_result_is_an_empty_cell_whatever_size_its_image_has(written: list[Any]) -> None:
    failure = {"status": "failed", "error": "SR is 900×30, HR is 64×64"}
    item = GalleryItem(
        "a", [GalleryImage("x", png(900, 30, "blue"), failure), GalleryImage("HR", png(64, 64, "red"), role="hr")]
    )
    sheet = contact_sheet([item])
    assert item.size == (64, 64)
    assert not places(sheet, BLUE).any()
    assert places(sheet, RED).sum() == 256**2
    assert sheet.getpixel((left(0), int(places(sheet, RED).any(axis=1).argmax()))) == tuple(bytes.fromhex(EMPTY[1:]))
    assert [("failed", ALARM, False)] in written
    assert [("SR is 900×30, HR is 64×64", MUTED, False)] in written


def test_large_images_keep_their_shape_are_reduced_smoothly_and_it_says_so(written: list[Any]) -> None:
    stripes = np.zeros((720, 1280, 3), np.uint8)
    stripes[:, ::2] = 200
    file = io.BytesIO()
    Image.fromarray(stripes).save(file, "PNG")
    sheet = contact_sheet(
        [
            GalleryItem(
                "a",
                [GalleryImage("HR", file.getvalue(), role="hr"), GalleryImage("LR", png(160, 90, "red"), role="lr")],
            )
        ]
    )
    assert places(sheet, RED).sum() == 320 * 180
    inside = np.array(sheet)[places(sheet, RED).any(axis=1)][10:-10, left(1, 320) + 10 : left(1, 320) + 310]
    assert inside.min() >= 95
    assert inside.max() <= 105  # neither 0 nor 200: no pixel of the stripes is left out
    assert [("a", INK, False), ("   shown at 1:4", MUTED, False)] in written


def test_images_that_are_not_reduced_do_not_say_so(gallery: list[GalleryItem], written: list[Any]) -> None:
    contact_sheet(gallery)
    assert not any("shown at" in text for line in written for text, _, _ in line)


@pytest.mark.parametrize(
    ("size", "shown"), [((100, 1000), (64, 640)), ((10, 100), (60, 600)), ((200, 300), (200, 300))]
)
def test_tall_images_are_no_taller_than_the_sheet_allows(size: tuple[int, int], shown: tuple[int, int]) -> None:
    red = places(contact_sheet([GalleryItem("a", [GalleryImage("HR", png(*size, "red"), role="hr")])]), RED)
    assert (red.any(axis=0).sum(), red.any(axis=1).sum()) == shown
    assert shown[1] <= TALLEST


def test_an_image_of_another_shape_is_not_stretched() -> None:
    sheet = contact_sheet(
        [
            GalleryItem(
                "a",
                [
                    GalleryImage("LR", png(32, 16, "red"), role="lr"),
                    GalleryImage("HR", png(64, 64, "blue"), role="hr"),
                ],
            )
        ]
    )
    red = places(sheet, RED)
    assert (red.any(axis=0).sum(), red.any(axis=1).sum()) == (256, 128)


@pytest.mark.slow
def test_labels_too_long_stay_in_their_column() -> None:
    item = GalleryItem(
        "key" * 999, [GalleryImage("method" * 9999, png(8, 8, "red")), GalleryImage("x\ny", png(8, 8, "red"))]
    )
    sheet = np.array(contact_sheet([item]))
    top = int((sheet == RED).all(axis=-1).any(axis=1).argmax())
    labels = sheet[MARGIN : MARGIN + 24]
    assert (labels[:, MARGIN + 256 : MARGIN + 256 + GAP] == 255).all()
    assert (labels[:, left(1) :] < 128).any()
    assert (sheet[:top, -MARGIN:] == 255).all()


def test_a_cut_label_ends_with_an_ellipsis_and_fits() -> None:
    face = Face(15)
    short = cut("a long name of a method", face, 90)
    assert short.endswith("…")
    assert "a long name".startswith(short[:-1])
    assert face.getlength(short) <= 90 < face.getlength("a long name of a method")
    assert cut("bicubic", face, 90) == "bicubic"


@pytest.mark.parametrize("character", "×∞–…↑↓·≥≤éЖσ")
def test_the_font_has_what_reports_write(character: str) -> None:
    face = Face(15)
    assert bytes(face.main.getmask(character)) != bytes(face.main.getmask("\uffff"))


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one image"):
        contact_sheet([])
