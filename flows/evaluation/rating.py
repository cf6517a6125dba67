"""How people rate results: the page where they grade them blind, and a summary of its answers.

The page of the newest study is in `rating/`, to be handed out alone. What names the methods behind its images
is beside the report and stays at home: `study.json` for the newest study, and a `study-ID.json` for each that there
was, so that answers find their methods after others have joined. Reports of before have a `study.json` alone.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flows.evaluation.gallery import EMBEDDED_BYTES, Gallery
from flows.inputs.sources import file_at
from flows.interface.console import log
from reports.figures.gallery import GalleryItem
from reports.rating.analysis import summarise_ratings
from reports.rating.answers import MAX_FILE, Session, ratings_table, read_session, write_ratings
from reports.rating.page import rating_page
from reports.rating.study import Study, StudyItem, StudyKey, read_study, write_study
from storage.stores.location import Entry, Location, StorageError

PAGE, KEY, TABLE, IMAGES = "rating/index.html", "study.json", "ratings.parquet", "rating/images"
MAX = 2**26
"""Bytes of a study's key."""
RATED = 12
"""Images that people are asked about; by pairs they see each so many times as there are pairs of methods."""


def write_rating(out: Location, gallery: Gallery, mode: Any) -> None:
    """Make the page and the key to it, of images that each method has a good result of; without any, log that.

    The secret of the key before stays, so that answers on their way still fit, and so does that key.
    """
    methods = list(gallery.comparison.sr)
    shared = [key for key in gallery.keys if all(_is_good(gallery, method, key) for method in methods)]
    if not shared:
        log(f"no rating page: no image of the gallery has good results of {' and '.join(methods)}")
        return
    before = _key(out, KEY)
    secret = {"secret": before.secret} if before is not None else {}
    rated = [_item(item) for item in replace(gallery, keys=shared).items(RATED)]
    study = Study("", mode, rated, reference=all(item.hr is not None for item in rated), **secret)
    if before is not None and before.id != study.id:
        out.write(_name(before.id), out.read(KEY))
    for name in (_name(study.id), KEY):
        if out.read_if_there(name) != write_study(study):
            out.write(name, write_study(study))
    embedded = sum(len(png) for _, png in study.images()) <= EMBEDDED_BYTES
    if not embedded:
        for name, png in study.images():
            out.write(f"{IMAGES}/{name}.png", png)
    out.write(PAGE, rating_page(study, None if embedded else "images").encode())


def answers_stand_on(out: Location, answers: Sequence[str]) -> list[Entry]:
    """What `read_answers` would read, as it is listed now: the files of the answers, and the newest key."""
    if not answers:
        return []
    files = [place.info(name) for place, name in map(_file, answers)]
    return [*files, *([out.info(KEY)] if out.exists(KEY) else [])]


def read_answers(out: Location, answers: Sequence[str]) -> dict[str, Any]:
    """Write what people exported as `ratings.parquet`, and sum it up as `summarise_ratings` does.

    StorageError, with the address that was given, for files that hold no answers, or some to an unknown study.
    """
    try:
        sessions = {address: _session(address) for address in answers}
        studies = {session.study: _study(out, session.study, address) for address, session in sessions.items()}
        table = ratings_table(sessions, studies)
    except ValueError as error:
        raise StorageError(str(error)) from error
    with out.writing(TABLE) as path:
        write_ratings(table, path)
    return summarise_ratings(table)


def _is_good(gallery: Gallery, method: str, key: str) -> bool:
    row = gallery.rows.get((method, key))
    return row is not None and row["status"] == "ok"


def _item(item: GalleryItem) -> StudyItem:
    results = {image.label: image.png for image in item.images if image.role == "sr"}
    others = {image.role: image.png for image in item.images if image.role != "sr"}
    return StudyItem(item.key, results, others.get("lr"), others.get("hr"))


def _file(address: str) -> tuple[Location, str]:
    return file_at(address, "what people saved from the rating page")


def _session(address: str) -> Session:
    place, name = _file(address)
    entry = place.info(name)
    return read_session(place.fetch(entry, 0, min(entry.size, MAX_FILE + 1)), address)


def _study(out: Location, study: str, address: str) -> StudyKey:
    """The key to a study that the file at an address answers."""
    for name in (_name(study), KEY):
        key = _key(out, name)
        if key is not None and key.id == study:
            return key
    raise StorageError(
        f"{address}: answers study {study}, and {out} has no {_name(study)}, which --rating writes with the page"
    )


def _key(out: Location, name: str) -> StudyKey | None:
    text = out.read_if_there(name, MAX)
    try:
        return read_study(text, out.address(name)) if text is not None else None
    except ValueError as error:
        raise StorageError(str(error)) from error


def _name(study: str) -> str:
    return f"study-{study}.json"
