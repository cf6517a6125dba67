"""Rows of a report's table, as measured: two methods, two images, one failure."""

import math
from typing import Any

INF, NAN = math.inf, math.nan


def row(method: str, key: str, psnr: float, **others: Any) -> dict[str, Any]:
    common = {
        "protocol": "antialias",
        "scale": 4.0,
        "width": 128,
        "height": 96,
        "colour": "rgb",
        "border": 0,
        "status": "ok",
        "error": None,
    }
    return {
        "method": method,
        "key": key,
        **common,
        "status": "ok",
        "error": None,
        "psnr": psnr,
        "ssim": 0.9,
        "lpips": 0.1,
        "consistency": 1e-5,
    } | others


ROWS = [
    row("dtls", "a", 30.0, ssim=0.8),
    row("dtls", "b", INF, lpips=NAN),
    row("bicubic", "a", 28.0),
    {"method": "bicubic", "key": "b", "status": "failed", "error": "truncated file"},
]
