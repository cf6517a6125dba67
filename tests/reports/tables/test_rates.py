"""Quality at the size of files: means over what all methods have, and where a codec needs more than LR."""

import pandas as pd
import pytest

from reports.tables.rates import rates, rates_table

INFINITE = float("inf")


def frame() -> pd.DataFrame:
    rows = [
        ("sr", "a", 100, 30.0, 0.1),
        ("jpeg", "a", 90, 28.0, 0.3),
        ("sr", "b", 200, INFINITE, 0.3),
        ("jpeg", "b", 300, 34.0, 0.1),
        ("sr", "c", 400, 10.0, 0.9),
    ]
    made = pd.DataFrame(rows, columns=["method", "key", "bytes", "psnr", "lpips"])
    return made.assign(status="ok", ssim=None, width=20, height=10)


def test_means_are_of_the_images_that_all_have() -> None:
    sr, jpeg = rates(frame(), ["jpeg", "webp"])
    assert (sr["method"], sr["images"], sr["bytes"], sr["larger"]) == ("sr", 2, 150, 0)
    assert sr["bits_per_pixel"] == pytest.approx(8 * 300 / 400)
    assert (sr["psnr"], sr["ssim"], sr["lpips"]) == (30, None, pytest.approx(0.2))
    assert (jpeg["bytes"], jpeg["larger"], jpeg["psnr"]) == (195, 1, 31)


def test_the_table_has_the_best_in_bold_and_no_column_without_numbers() -> None:
    lines = rates_table(rates(frame(), ["jpeg"])).splitlines()
    assert lines[0] == "| Method | Bytes | Bits per pixel | PSNR ↑ | LPIPS ↓ | Images | Larger than LR |"
    assert lines[2] == "| sr | 150 | 6.000 | 30.00 | **0.2000** | 2 | 0 |"
    assert lines[3] == "| jpeg | 195 | 7.800 | **31.00** | **0.2000** | 2 | 1 |"


def test_failures_and_images_without_a_size_do_not_count() -> None:
    some = frame().assign(status=["ok", "ok", "failed", "ok", "ok"])
    assert [row["images"] for row in rates(some, ["jpeg"])] == [1, 1]
    assert rates(frame().assign(bytes=None), ["jpeg"]) == []
    codecs_alone = frame().assign(status=["failed", "ok", "failed", "ok", "failed"])
    assert [(row["method"], row["larger"]) for row in rates(codecs_alone, ["jpeg"])] == [("jpeg", 0)]
