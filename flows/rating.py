"""What people say of results: the page where they grade them blind, and what its answers come to.

The page lies in `rating/`, to be handed out alone; `study.json`, which names the methods behind its pictures, lies
beside the report and stays at home.
"""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.gallery import EMBEDDED_BYTES
from flows.sources import file_at
from reports.gallery import GalleryItem
from reports.rating import Study, StudyItem, rating_page, read_study, write_study
from reports.ratings_summary import ratings_markdown, summarise_ratings
from reports.ratings_table import read_ratings, write_ratings
from storage.locations import Location, StorageError

PAGE, KEY, TABLE, PICTURES = "rating/index.html", "study.json", "ratings.parquet", "rating/pictures"
RATED = 12
"""Pictures that people are asked about; by pairs they see each so many times as there are pairs of methods."""
TITLE = "Which pictures look right?"


def write_rating(out: Location, items: Sequence[GalleryItem], mode: Any) -> None:
    """Make the page, and the key to it; an older key's secret stays, so that answers on their way still fit."""
    pictures = [_item(item) for item in items]
    rated = [item for item in pictures if set(item.results) == set(pictures[0].results)]
    with TemporaryDirectory(prefix="dtls-") as folder:
        key = Path(folder) / KEY
        secret = {}
        if out.exists(KEY):
            out.download(KEY, key)
            secret = {"secret": read_study(key).secret}
        study = Study(TITLE, mode, rated, reference=all(item.hr is not None for item in rated), **secret)
        write_study(study, key)
        embedded = sum(len(png) for _, png in study.pictures()) <= EMBEDDED_BYTES
        if not embedded:
            for name, png in study.pictures():
                out.write(f"{PICTURES}/{name}.png", png)
        out.write(PAGE, rating_page(study, None if embedded else "pictures").encode())
        out.upload(KEY, key)


def read_answers(out: Location, answers: Sequence[str]) -> str:
    """Sum up what people exported, as `ratings.parquet` and as Markdown; StorageError for files that are none."""
    if not out.exists(KEY):
        raise StorageError(f"{out}: no {KEY}, which --rating writes with the page; ratings cannot be read without it")
    with TemporaryDirectory(prefix="dtls-") as folder:
        here = Path(folder)
        out.download(KEY, here / KEY)
        files = []
        for number, address in enumerate(answers):
            place, name = file_at(address, "what people saved from the rating page")
            files.append(here / f"{number:04d}-{name}")
            place.download(name, files[-1])
        try:
            table = read_ratings(files, read_study(here / KEY))
        except ValueError as error:
            raise StorageError(str(error)) from error
        write_ratings(table, here / TABLE)
        out.upload(TABLE, here / TABLE)
    return ratings_markdown(summarise_ratings(table))


def _item(item: GalleryItem) -> StudyItem:
    named = {picture.label: picture.png for picture in item.pictures}
    results = {label: png for label, png in named.items() if label not in ("LR", "HR")}
    return StudyItem(item.key, results, named.get("LR"), named.get("HR"))
