"""The answers that people send back, checked and with the methods' names, as a table: `ratings.parquet`.

A file comes from someone's browser by mail, so nothing in it is taken on trust: its size, its shape, every value, and
that it answers what the study asked.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from reports.rating.study import Id, Mode, StudyKey, first_problem

SCHEMA_VERSION = 1
MAX_FILE = 16 * 2**20
NAME_LENGTH = 80


def _field(name: str, kind: pa.DataType, description: str, unit: str = "", *, nullable: bool = False) -> pa.Field:
    metadata = {"description": description} | ({"unit": unit} if unit else {})
    return pa.field(name, kind, nullable=nullable, metadata=metadata)


RATINGS_SCHEMA = pa.schema(
    [
        _field("study", pa.string(), "the study's id"),
        _field("rater", pa.string(), "the name that was given, or rater- and a hash of the session"),
        _field("session", pa.string(), "one person's way through the page, drawn in the browser"),
        _field("key", pa.string(), "the image's name within its source"),
        _field("method", pa.string(), "what made the result that was graded, or the one on the left of a pair"),
        _field("other", pa.string(), "what made the result on the right; null for grades", nullable=True),
        _field("grade", pa.int8(), "1 bad, 2 poor, 3 good, 4 excellent; null for pairs", nullable=True),
        _field(
            "preference",
            pa.float64(),
            "1 where method was preferred, 0 where other was, 0.5 for no difference; null for grades",
            nullable=True,
        ),
        _field("seconds", pa.float64(), "how long the images were looked at", "s"),
        _field("order", pa.int32(), "place in that person's random order, from 0"),
        _field("is_repeat", pa.bool_(), "whether that person was asked the same before"),
        _field("time", pa.timestamp("ms", tz="UTC"), "when it was answered, by the person's clock"),
    ],
    metadata={"dtls.table": "ratings", "dtls.version": str(SCHEMA_VERSION)},
)


class Rating(BaseModel):
    """One answer as the page saves it: to a result's grade, or to a pair from left to right."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    order: int = Field(ge=0, lt=2**31)
    item: Id
    shown: list[Id] = Field(min_length=1, max_length=2)
    repeat: bool
    grade: int | None = Field(default=None, ge=1, le=4)
    preference: Literal["left", "right", "none"] | None = None
    seconds: float = Field(ge=0, le=86_400)
    time: AwareDatetime

    @model_validator(mode="after")
    def _answers_what_was_shown(self) -> Self:
        graded = len(self.shown) == 1 and self.grade is not None and self.preference is None
        preferred = len(set(self.shown)) == 2 and self.grade is None and self.preference is not None
        if not (graded or preferred):
            raise ValueError("one result has a grade, two have a preference")
        if not 2000 <= self.time.year < 2200:
            raise ValueError("the time is none of this age")
        return self


class Session(BaseModel):
    """What the page saves: one person's answers."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    format: Literal["ratings"]
    version: Literal[1]
    study: Id
    mode: Mode
    session: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    rater: str = Field(max_length=NAME_LENGTH)
    seed: int = Field(ge=0, lt=2**32)
    started: AwareDatetime
    planned: int = Field(ge=1, lt=2**31)
    ratings: list[Rating] = Field(max_length=100_000)

    @property
    def name(self) -> str:
        """The rater's name on one line, or one made of the session."""
        printed = "".join(letter if letter.isprintable() else " " for letter in self.rater)
        return " ".join(printed.split()) or f"rater-{hashlib.sha256(self.session.encode()).hexdigest()[:8]}"


def read_session(text: bytes, name: str) -> Session:
    """What a person saved. ValueError, one line that begins with the name of the text, for other texts."""
    if len(text) > MAX_FILE:
        raise ValueError(f"{name}: larger than ratings are: more than {MAX_FILE >> 20} MiB")
    try:
        return Session.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{name}: has no ratings: {first_problem(error)}") from None


def ratings_table(sessions: Mapping[str, Session], studies: Mapping[str, StudyKey]) -> pa.Table:
    """What people answered as a table of `RATINGS_SCHEMA`, ordered by rater, session and order.

    sessions: by the name of their file. studies: by id, those that the sessions answer. A session that was saved more
    than once counts once, with the file that has most answers. ValueError, one line that begins with the name of the
    file, for answers to what their study does not ask.
    """
    fullest: dict[str, Session] = {}
    for name, session in sessions.items():
        _check_answers(name, session, studies[session.study])
        before = fullest.get(session.session)
        if before is None or len(before.ratings) <= len(session.ratings):
            fullest[session.session] = session
    ordered = sorted(fullest.values(), key=lambda session: (session.name, session.session))
    rows = [row for session in ordered for row in _rows(session, studies[session.study])]
    return pa.Table.from_pylist(rows, schema=RATINGS_SCHEMA)


def write_ratings(table: pa.Table, path: Path) -> None:
    """Write `ratings.parquet`. ValueError for a table of another schema."""
    if not table.schema.equals(RATINGS_SCHEMA):
        raise ValueError("a table of ratings has other columns")
    pq.write_table(table, path, compression="zstd")


def _check_answers(name: str, session: Session, study: StudyKey) -> None:
    """Every answer is to what the study asks, and is given once, or twice where it is repeated."""
    if session.mode != study.mode:
        raise ValueError(f"{name}: answers in {session.mode} to study {study.id}, which asks for {study.mode}")
    results = {item.id: item.results for item in study.items}
    places: set[int] = set()
    asked: set[tuple[frozenset[str], bool]] = set()
    for rating in session.ratings:
        question = (frozenset(rating.shown), rating.repeat)
        if not question[0] <= results.get(rating.item, {}).keys() or (len(question[0]) == 2) != (
            study.mode == "pairs"
        ):
            raise ValueError(f"{name}: answer {rating.order} is to something that the study does not ask")
        if rating.order in places or question in asked:
            raise ValueError(f"{name}: answer {rating.order} is given twice")
        if rating.order >= session.planned:
            raise ValueError(f"{name}: answer {rating.order} is beyond the {session.planned} questions")
        places.add(rating.order)
        asked.add(question)


def _rows(session: Session, study: StudyKey) -> Iterator[dict[str, Any]]:
    items = {item.id: item for item in study.items}
    worth = {"left": 1.0, "right": 0.0, "none": 0.5, None: None}
    for rating in sorted(session.ratings, key=lambda rating: rating.order):
        item = items[rating.item]
        methods = [item.results[shown] for shown in rating.shown]
        yield {
            "study": session.study,
            "rater": session.name,
            "session": session.session,
            "key": item.key,
            "method": methods[0],
            "other": methods[1] if len(methods) == 2 else None,
            "grade": rating.grade,
            "preference": worth[rating.preference],
            "seconds": rating.seconds,
            "order": rating.order,
            "is_repeat": rating.repeat,
            "time": rating.time,
        }
