"""A rating page is blind; what comes back is checked and has its names again; summaries say how sure they are."""

import base64
import hashlib
import html
import io
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from scipy.stats import norm
from torch import Tensor

from reports.rating.analysis import mean_interval, share_interval, summarise_ratings
from reports.rating.answers import MAX_FILE, RATINGS_SCHEMA, ratings_table, read_session, write_ratings
from reports.rating.page import SCRIPTS, rating_page
from reports.rating.study import Study, StudyItem, read_study, study_key, write_study
from tests.reports.conftest import png

METHODS = {"bicubic": Image.Resampling.BICUBIC, "nearest": Image.Resampling.NEAREST, "dtls": Image.Resampling.LANCZOS}
Grader = Callable[[str, str], int]
Chooser = Callable[[str, str, str], str]


def study_items(photographs: dict[str, Tensor]) -> list[StudyItem]:
    """Each photograph, reduced by four and made large again by three of Pillow's filters under methods' names."""
    items = []
    for name, hr in photographs.items():
        large = Image.fromarray(hr.permute(1, 2, 0).numpy())
        small = large.reduce(4)
        results = {method: image(small.resize(large.size, how)) for method, how in METHODS.items()}
        items.append(StudyItem(f"{name}.png", results, image(small), png(hr)))
    return items


def image(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="session")
def items(photographs: dict[str, Tensor]) -> list[StudyItem]:
    return study_items(photographs)


@pytest.fixture
def study(items: list[StudyItem]) -> Study:
    return Study("What do you see?", "grades", items)


@pytest.fixture
def pairs(items: list[StudyItem]) -> Study:
    return Study("What do you see?", "pairs", items)


def readable(document: str) -> str:
    """The page without its images' bytes, in which any short word may stand."""
    return html.unescape(re.sub(r"base64,[A-Za-z0-9+/=]+", "", document))


def saved(study: Study, rater: str, number: int, ratings: list[dict[str, Any]]) -> dict[str, Any]:
    """What the page saves of one person."""
    now = "2024-05-06T07:08:09.123Z"
    ratings = [
        {"order": n, "repeat": False, "seconds": 1.5, "time": now} | rating for n, rating in enumerate(ratings)
    ]
    person = {"session": f"{number:032x}", "rater": rater, "seed": number, "started": now, "planned": len(ratings)}
    return {"format": "ratings", "version": 1, "study": study.id, "mode": study.mode} | person | {"ratings": ratings}


def graded(study: Study, grade: Grader) -> list[dict[str, Any]]:
    return [
        {"item": study.item_id(item), "shown": [result], "grade": grade(item.key, method)}
        for item in study.items
        for result, method in study.result_ids(item).items()
    ]


def preferred(study: Study, choose: Chooser) -> list[dict[str, Any]]:
    return [
        {"item": study.item_id(item), "shown": [a, b], "preference": choose(item.key, methods[a], methods[b])}
        for item in study.items
        for methods in [study.result_ids(item)]
        for a, b in combinations(methods, 2)
    ]


def answers_in(paths: Iterable[Path], *studies: Study) -> pa.Table:
    """The table of what people saved there."""
    sessions = {str(path): read_session(path.read_bytes(), str(path)) for path in paths}
    return ratings_table(sessions, {study.id: study_key(study) for study in studies})


def write(path: Path, data: object) -> Path:
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


@pytest.fixture
def person(study: Study) -> dict[str, Any]:
    return saved(study, "Ada", 1, graded(study, lambda key, method: 3))


# The page and the key to it.


@pytest.mark.parametrize("mode", ["grades", "pairs"])
@pytest.mark.parametrize("folder", [None, "images of a study"])
def test_no_method_and_no_key_is_in_the_page(items: list[StudyItem], mode: Any, folder: str | None) -> None:
    page = readable(rating_page(Study("What do you see?", mode, items), folder)).lower()
    assert "what do you see?" in page
    assert [name for name in [*METHODS, *(item.key for item in items)] if name in page] == []


def test_results_stand_in_an_order_that_says_nothing_of_their_methods(items: list[StudyItem]) -> None:
    orders = {tuple(Study("Which?", "grades", items, secret=str(n)).result_ids(items[0]).values()) for n in range(50)}
    assert len(orders) == math.factorial(len(METHODS))


def test_every_image_is_in_the_page_once(study: Study) -> None:
    embedded = re.findall(r"base64,([A-Za-z0-9+/=]+)\"", rating_page(study))
    images = [png for item in study.items for png in (*item.results.values(), item.lr, item.hr)]
    assert sorted(map(base64.b64decode, embedded)) == sorted(png for png in images if png)


def test_images_beside_the_page_are_named_by_ids(study: Study) -> None:
    page = rating_page(study, "a folder/of 100 %")
    named = {name for name, _ in study.images()}
    assert set(re.findall(r"a%20folder/of%20100%20%25/([0-9a-f]{16})\.png", page)) == named
    assert "base64" not in page


def test_a_hidden_reference_is_not_in_the_page(items: list[StudyItem]) -> None:
    shown = {png for _, png in Study("Which?", "pairs", items, reference=False).images()}
    assert not shown & {item.hr for item in items}
    assert not shown & {item.lr for item in items}


def test_a_study_made_again_is_the_same_study(study: Study, items: list[StudyItem]) -> None:
    again = Study("Another title", "grades", items, secret=read_study(write_study(study), "study.json").secret)
    assert again.id == study.id
    assert dict(again.images()) == dict(study.images())
    assert Study("What do you see?", "grades", items).id != study.id
    changed = [
        StudyItem(items[0].key, {**items[0].results, "dtls": b"another"}, items[0].lr, items[0].hr),
        *items[1:],
    ]
    assert Study("What do you see?", "grades", changed, secret=study.secret).id != study.id


def test_study_json_has_the_names_back(study: Study) -> None:
    key = read_study(write_study(study), "study.json")
    assert key == study_key(study)
    assert {item.key: item.results for item in key.items} == {i.key: study.result_ids(i) for i in study.items}


@pytest.mark.parametrize("text", ["", "[]", "{}", "no", '{"version": 1e999}', "[" * 100_000, "\xff"])
def test_what_is_no_study_json_is_refused_by_its_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"^report/study\.json: names no methods of a study: .+$") as caught:
        read_study(text.encode("latin-1"), "report/study.json")
    assert "\n" not in str(caught.value)


def test_studies_that_cannot_be_are_refused(items: list[StudyItem]) -> None:
    one = [StudyItem("a", {"dtls": b"1"}, b"2")]
    for arguments, said in [
        (("Why", "grades", []), "at least one image"),
        (("Why", "pairs", one), "a has 1 of the 2 results that pairs need"),
        (("Why", "grades", one), "a has no HR image"),
        (("Why", "grades", [*items, items[0]]), "each image once"),
        (("Why", "stars", items), "grades or pairs, not 'stars'"),
        (("Is DTLS better?", "grades", items), "names the method dtls"),
        (("Why", "grades", items, "nearest or best?"), "names the method nearest"),
    ]:
        with pytest.raises(ValueError, match=re.escape(said)):
            Study(*arguments)  # type: ignore[arg-type]


def test_a_hostile_title_stays_text(items: list[StudyItem]) -> None:
    title = "</title></script><script>alert(1)</script><img src=x onerror=alert(1)>"
    page = rating_page(Study(title, "grades", items, title))
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert page.count("<script") == len(SCRIPTS) + 1


def test_only_the_scripts_and_the_style_of_the_page_may_run(study: Study) -> None:
    page = rating_page(study)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" for text in texts]
        assert f"{directive} {' '.join(hashes)};" in html.unescape(policy[1])


@pytest.mark.parametrize("mode", ["grades", "pairs"])
def test_a_method_may_be_called_by_words_of_ours(mode: Any) -> None:
    results = dict.fromkeys(["right", "Images", "look", "which", "one", "result", "original"], b"1")
    study = Study("", mode, [StudyItem("x", results, b"2", b"3")])
    assert "<h1>Which images look right?</h1>" in rating_page(study)
    with pytest.raises(ValueError, match="names the method right"):
        Study("Which images look right?", mode, study.items)


# What comes back.


def test_ratings_have_their_methods_again(study: Study, tmp_path: Path) -> None:
    grades = {"bicubic": 2, "nearest": 1, "dtls": 4}
    answers = graded(study, lambda key, method: grades[method])
    table = answers_in([write(tmp_path / "a.json", saved(study, "Ada", 1, answers))], study)
    assert table.schema.equals(RATINGS_SCHEMA, check_metadata=True)
    rows = table.to_pylist()
    assert len(rows) == len(study.items) * len(METHODS)
    assert all(row["grade"] == grades[row["method"]] for row in rows)
    assert {row["key"] for row in rows} == {item.key for item in study.items}
    first = rows[0]
    assert (first["rater"], first["study"], first["order"], first["seconds"]) == ("Ada", study.id, 0, 1.5)
    assert first["time"] == datetime(2024, 5, 6, 7, 8, 9, 123_000, UTC)
    assert first["other"] is None
    assert first["preference"] is None


def test_a_preference_is_for_the_method_on_its_side(pairs: Study, tmp_path: Path) -> None:
    order = list(METHODS)
    answers = preferred(pairs, lambda key, a, b: "left" if order.index(a) < order.index(b) else "right")
    table = answers_in([write(tmp_path / "a.json", saved(pairs, "", 1, answers))], pairs)
    for row in table.to_pylist():
        assert row["preference"] == float(order.index(row["method"]) < order.index(row["other"]))
        assert row["grade"] is None


def test_the_parquet_file_documents_itself_and_others_read_it(study: Study, tmp_path: Path) -> None:
    path = tmp_path / "ratings.parquet"
    ada = write(tmp_path / "a.json", saved(study, "Ada", 1, graded(study, lambda key, method: 2)))
    table = answers_in([ada], study)
    write_ratings(table, path)
    schema = pq.read_schema(path)
    assert schema.metadata[b"dtls.table"] == b"ratings"
    assert all(schema.field(name).metadata[b"description"] for name in schema.names)
    assert schema.field("seconds").metadata[b"unit"] == b"s"
    assert len(pd.read_parquet(path)) == table.num_rows
    found = duckdb.sql(f"SELECT avg(grade), count(DISTINCT method) FROM '{path}'")
    assert found is not None
    assert found.fetchall() == [(2.0, 3)]
    with pytest.raises(ValueError, match="other columns"):
        write_ratings(table.drop_columns(["grade"]), path)


def test_a_rater_without_a_name_has_one_of_the_session(study: Study, tmp_path: Path) -> None:
    answers = graded(study, lambda key, method: 2)
    names = ["", " \u202e\n ", "Zoë\x00\x1b[31m  K. "]
    files = [write(tmp_path / f"{n}.json", saved(study, name, n, answers)) for n, name in enumerate(names)]
    raters = answers_in(files, study)["rater"].unique().to_pylist()
    assert sorted(raters)[0] == "Zoë [31m K."
    assert len({rater for rater in raters if re.fullmatch(r"rater-[0-9a-f]{8}", rater)}) == 2


def test_a_session_saved_twice_counts_once_with_the_fuller_file(study: Study, tmp_path: Path) -> None:
    answers = graded(study, lambda key, method: 3)
    half = write(tmp_path / "half.json", saved(study, "Ada", 1, answers[:4]) | {"planned": len(answers)})
    whole = write(tmp_path / "whole.json", saved(study, "Ada", 1, answers))
    for files in ([half, whole], [whole, half]):
        assert answers_in(files, study).num_rows == len(answers)
    assert answers_in([half], study).num_rows == 4


def test_no_files_are_an_empty_table(study: Study) -> None:
    assert answers_in([], study).num_rows == 0
    assert summarise_ratings(answers_in([], study))["raters"] == 0


def test_answers_to_several_studies_have_the_names_of_their_own(
    study: Study, items: list[StudyItem], tmp_path: Path
) -> None:
    fewer = [replace(item, results={"dtls": item.results["dtls"]}) for item in items]
    other = Study("", "grades", fewer)
    ada = write(tmp_path / "a.json", saved(study, "Ada", 1, graded(study, lambda key, method: 2)))
    bob = write(tmp_path / "b.json", saved(other, "Bob", 2, graded(other, lambda key, method: 4)))
    summary = summarise_ratings(answers_in([ada, bob], study, other))
    opinions = {row["method"]: (row["opinion"], row["raters"]) for row in summary["grades"]}
    assert opinions == {"dtls": (3.0, 2), "bicubic": (2.0, 1), "nearest": (2.0, 1)}


HOSTILE_RATINGS: dict[str, dict[str, Any]] = {
    "grade 5": {"grade": 5},
    "grade 0": {"grade": 0},
    "half a grade": {"grade": 2.5},
    "a grade as text": {"grade": "3"},
    "true": {"grade": True},
    "no grade": {"grade": None},
    "a preference for one": {"preference": "left"},
    "a pair in grades": {"shown": ["0" * 16, "1" * 16], "grade": None, "preference": "left"},
    "an unknown result": {"shown": ["0" * 16]},
    "an unknown image": {"item": "0" * 16},
    "a path for an id": {"item": "../../etc/passwd"},
    "an id with a line end": {"item": "0" * 16 + "\n"},
    "years of looking": {"seconds": 1e9},
    "less than no time": {"seconds": -1},
    "infinite seconds": {"seconds": math.inf},
    "no seconds": {"seconds": math.nan},
    "before the beginning": {"order": -1},
    "beyond the end": {"order": 10**6},
    "beyond any integer": {"order": 10**40},
    "no time": {"time": "yesterday"},
    "a time without a zone": {"time": "2024-05-06T07:08:09"},
    "a time before computers": {"time": "0001-01-01T00:00:00Z"},
    "something more": {"surprise\n\x1b[2J": 1},
}


@pytest.mark.parametrize("what", HOSTILE_RATINGS)
def test_a_hostile_answer_is_refused_in_one_line(
    what: str, study: Study, person: dict[str, Any], tmp_path: Path
) -> None:
    person["ratings"][1] |= HOSTILE_RATINGS[what]
    assert_refused(write(tmp_path / "hostile.json", person), study)


@pytest.mark.parametrize(
    "change",
    [
        {"study": "0" * 17},
        {"mode": "pairs"},
        {"version": 2},
        {"format": "other"},
        {"session": "x" * 32},
        {"rater": "x" * 81},
        {"rater": None},
        {"planned": 0},
        {"seed": 2**32},
        {"ratings": {}},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_hostile_session_is_refused_in_one_line(
    change: dict[str, Any], study: Study, person: dict[str, Any], tmp_path: Path
) -> None:
    assert_refused(write(tmp_path / "hostile.json", person | change), study)


@pytest.mark.parametrize("text", [b"", b"null", b"{", b"\xff\xfe", b"[" * 200_000, b" " * (MAX_FILE + 1)])
def test_what_is_no_json_of_ours_is_refused_in_one_line(text: bytes, study: Study, tmp_path: Path) -> None:
    path = tmp_path / "hostile.json"
    path.write_bytes(text)
    assert_refused(path, study)


def test_an_answer_given_twice_is_refused(study: Study, person: dict[str, Any], tmp_path: Path) -> None:
    twice = person["ratings"][0]
    for again in (twice, twice | {"order": 5}, twice | {"order": 12}):
        changed = person | {"ratings": [*person["ratings"], again], "planned": 99}
        assert_refused(write(tmp_path / "hostile.json", changed), study)
    repeat = person | {"ratings": [*person["ratings"], twice | {"order": 12, "repeat": True}], "planned": 13}
    assert answers_in([write(tmp_path / "fine.json", repeat)], study).num_rows == 13


def assert_refused(path: Path, study: Study) -> None:
    with pytest.raises(ValueError, match=re.escape(str(path))) as caught:
        answers_in([path], study)
    line = str(caught.value).removeprefix(str(path))
    assert line.isascii()
    assert line.isprintable()
    assert len(line) < 250


# What it sums up to.


def people(study: Study, folder: Path, answers: Callable[[int], list[dict[str, Any]]], count: int) -> Any:
    files = [write(folder / f"{n}.json", saved(study, f"rater {n}", n, answers(n))) for n in range(count)]
    return answers_in(files, study)


def test_satisfied_are_grades_3_and_4(study: Study, tmp_path: Path) -> None:
    grades = {"bicubic": (2, 3), "nearest": (1, 2), "dtls": (4, 3)}
    table = people(study, tmp_path, lambda n: graded(study, lambda key, method: grades[method][n % 2]), 4)
    summary = summarise_ratings(table)
    assert [row["method"] for row in summary["grades"]] == ["dtls", "bicubic", "nearest"]
    assert [row["satisfied"] for row in summary["grades"]] == [1.0, 0.5, 0.0]
    assert [row["opinion"] for row in summary["grades"]] == [3.5, 2.5, 1.5]
    assert all(row["ratings"] == 16 and row["raters"] == 4 for row in summary["grades"])
    for row in summary["grades"]:
        assert 0 <= row["satisfied_low"] <= row["satisfied"] <= row["satisfied_high"] <= 1
        assert row["satisfied_high"] - row["satisfied_low"] > 0.1
    json.dumps(summary, allow_nan=False)


def test_repeats_count_for_the_agreement_only(study: Study, tmp_path: Path) -> None:
    answers = graded(study, lambda key, method: 3)
    again = [answer | {"repeat": True} for answer in answers[:4]]
    again[0] |= {"grade": 1}
    summary = summarise_ratings(people(study, tmp_path, lambda n: [*answers, *again], 2))
    assert summary["agreement"] == 0.75
    assert (summary["ratings"], summary["repeats"], summary["raters"]) == (24, 8, 2)
    assert all(row["opinion"] == 3 for row in summary["grades"])


@pytest.mark.slow
def test_a_pair_asked_again_with_its_sides_changed_agrees_by_its_methods(pairs: Study, tmp_path: Path) -> None:
    answers = preferred(pairs, lambda key, a, b: "left")
    swapped = [a | {"repeat": True, "shown": a["shown"][::-1], "preference": "right"} for a in answers[:3]]
    swapped[0] |= {"preference": "left"}
    summary = summarise_ratings(people(pairs, tmp_path, lambda n: [*answers, *swapped], 2))
    assert summary["agreement"] == pytest.approx(2 / 3)


@pytest.mark.slow
def test_known_strengths_are_found_again(pairs: Study, tmp_path: Path) -> None:
    strengths = {"dtls": 1.0, "bicubic": 0.0, "nearest": -1.0}
    random = np.random.default_rng(5)

    def choose(key: str, a: str, b: str) -> str:
        return "left" if random.random() < 1 / (1 + math.exp(strengths[b] - strengths[a])) else "right"

    summary = summarise_ratings(people(pairs, tmp_path, lambda n: preferred(pairs, choose), 60))
    assert [row["method"] for row in summary["pairs"]] == list(strengths)
    for row in summary["pairs"]:
        assert row["strength"] == pytest.approx(strengths[row["method"]], abs=0.2)
        assert row["strength_low"] < strengths[row["method"]] < row["strength_high"]
        assert row["preferred_low"] < row["preferred"] < row["preferred_high"]


@pytest.mark.slow
def test_no_difference_is_half_a_win_for_each(pairs: Study, tmp_path: Path) -> None:
    summary = summarise_ratings(people(pairs, tmp_path, lambda n: preferred(pairs, lambda key, a, b: "none"), 3))
    assert all(row["preferred"] == 0.5 and abs(row["strength"]) < 1e-6 for row in summary["pairs"])


@pytest.mark.slow
def test_intervals_cover_what_other_people_and_images_would_say() -> None:
    """People differ in how strict they are and images in how hard; intervals for coins would cover half of it."""
    above = norm.sf(np.array([1.5, 2.5, 3.5]), loc=2.6, scale=math.sqrt(2 * 0.7**2 + 1))
    share, opinion = above[1], 1 + above.sum()
    random = np.random.default_rng(8)
    raters, keys = np.repeat(np.arange(12), 20), np.tile(np.arange(20), 12)
    shares, opinions, coins = [], [], []
    for _ in range(300):
        severity = random.normal(0, 0.7, 12)[raters] + random.normal(0, 0.7, 20)[keys]
        felt = severity + random.normal(0, 1, 240) + 2.6
        grades = np.clip(np.round(felt), 1, 4).astype(float)
        _, low, high = share_interval((grades >= 3).astype(float), raters, keys)
        shares.append(low <= share <= high)
        _, low, high = mean_interval(grades, raters, keys)
        opinions.append(low <= opinion <= high)
        _, low, high = share_interval((grades >= 3).astype(float), np.arange(240), np.arange(240))
        coins.append(low <= share <= high)
    assert np.mean(coins) < 0.75
    assert 0.92 <= np.mean(shares) <= 0.99
    assert 0.92 <= np.mean(opinions) <= 0.99


def test_independent_ratings_have_wilsons_interval() -> None:
    values = np.array([1.0] * 300 + [0.0] * 700)
    mean, low, high = share_interval(values, np.arange(1000), np.arange(1000))
    assert (mean, round(low, 3), round(high, 3)) == (0.3, 0.272, 0.329)
