"""Small images for reports: crops of a photograph as HR, made smaller as LR, and large again by two methods."""

import json
from pathlib import Path
from typing import Any

from PIL import Image
from skimage import data

from flows.report import ReportOptions, report
from storage.stores.location import Location

HOW = {"good": Image.Resampling.BICUBIC, "poor": Image.Resampling.NEAREST}


def images(folder: Path, count: int = 6, side: int = 40) -> Path:
    """`folder` with hr/, lr/ (a quarter as wide), good/ and poor/, each with 0.png, 1.png, …"""
    astronaut: Any = data.astronaut
    photograph = Image.fromarray(astronaut())
    for number in range(count):
        hr = photograph.crop((20 * number, 100, 20 * number + side, 100 + side))
        lr = hr.resize((max(1, side // 4),) * 2, Image.Resampling.BICUBIC)
        save(hr, folder / "hr" / f"{number}.png")
        save(lr, folder / "lr" / f"{number}.png")
        for name, how in HOW.items():
            save(lr.resize((side, side), how), folder / name / f"{number}.png")
    return folder


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def options(folder: Path, out: object, **changes: Any) -> ReportOptions:
    """A report of these, without LPIPS unless `changes` say otherwise."""
    settings = {
        "hr": str(folder / "hr"),
        "lr": str(folder / "lr"),
        "sr": {name: str(folder / name) for name in HOW},
        "out": str(out),
        "protocol": "antialias",
        "lpips": "none",
        "device": "cpu",
        "max_failed": 1.0,
        **changes,
    }
    return ReportOptions(**settings)


def made(folder: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """Make the report; its summary."""
    report.fn(options(folder, out, **changes))
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary


def answers(out: Path | str, path: Path, grades: dict[str, int], session: str = "0" * 32) -> str:
    """What a person saves who gives each method's results one grade."""
    study = json.loads(Location.of(out).read("study.json"))
    shown = [(item["id"], result, method) for item in study["items"] for result, method in item["results"].items()]
    common = {"repeat": False, "seconds": 2.0, "time": "2026-11-21T10:00:00Z"}
    ratings = [
        {"order": order, "item": item, "shown": [result], "grade": grades[method], **common}
        for order, (item, result, method) in enumerate(shown)
    ]
    person = {"rater": path.stem, "session": session, "seed": 1, "started": "2026-11-21T10:00:00Z"}
    head = {"format": "ratings", "version": 1, "study": study["id"], "mode": "grades", "planned": len(ratings)}
    path.write_text(json.dumps({**head, **person, "ratings": ratings}))
    return str(path)
