"""The page on which people judge results: one HTML file, with the study's images by their opaque ids."""

import base64
import hashlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.rating.study import GRADES, Study

TEMPLATES = Path(__file__).with_name("templates")
SCRIPTS = ("rating.plan.js", "rating.question.js", "rating.start.js")
"""In the order they are run; a later one may use what an earlier one defines."""


def rating_page(study: Study, folder: str | None = None) -> str:
    """One HTML document that works from a file; the answers leave it as a file that the person saves.

    folder: where the files of `Study.images` are stored, relative to the page; without it they are embedded.
    No method and no key is in the page. Its policy lets no other script run and nothing come from elsewhere.
    """
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    scripts = [(TEMPLATES / name).read_text(encoding="utf-8") for name in SCRIPTS]
    style = (TEMPLATES / "rating.css").read_text(encoding="utf-8")
    return environment.get_template("rating.html.j2").render(
        study=study,
        data=_page_data(study, folder),
        views=_views(study),
        grades=GRADES,
        images="data:" if folder is None else "data: 'self' file:",
        style=style,
        style_hash=_policy_hash(style),
        scripts=scripts,
        script_hashes=" ".join(map(_policy_hash, scripts)),
    )


def _page_data(study: Study, folder: str | None) -> dict[str, Any]:
    """What the script works with: the study's items by their ids, sorted, and where each image is."""
    items = [
        {"id": study.item_id(item), "results": list(study.result_ids(item)), **study.guide_ids(item)}
        for item in study.items
    ]
    return {
        "id": study.id,
        "mode": study.mode,
        "items": sorted(items, key=lambda item: str(item["id"])),
        "images": {name: _address(name, png, folder) for name, png in sorted(study.images())},
    }


def _address(name: str, png: bytes, folder: str | None) -> str:
    if folder is None:
        return "data:image/png;base64," + base64.b64encode(png).decode()
    return f"{quote(folder)}/{name}.png"


def _views(study: Study) -> list[tuple[str, str]]:
    """The images of a question in the order they stand: name and label."""
    original = [("hr", "Original")] if study.reference else []
    if study.mode == "pairs":
        return [("left", "Left"), *original, ("right", "Right")]
    return [("lr", "Input"), ("result", "Result"), *original]


def _policy_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
