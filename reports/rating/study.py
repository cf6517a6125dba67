"""A study in which people judge results blind: what is asked, and the key that puts the names back.

The page knows images by opaque ids. Which method made which is in the study's key, which the browser never needs
and raters should not get. Ids are keyed hashes: with the same secret and the same images a study has the same ids,
so answers to a page that was made again still fit.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

TITLE = "Which images look right?"
GRADES = {1: "Bad", 2: "Poor", 3: "Good", 4: "Excellent"}
SATISFIED = 3
"""From this grade on a person counts as satisfied: 3 and 4, as papers do that print a share of satisfied viewers."""

Mode = Literal["grades", "pairs"]
Id = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]


@dataclass(frozen=True)
class StudyItem:
    """One image, as PNG files: what each method made of it, by the method's name, and LR and HR where they are."""

    key: str
    results: Mapping[str, bytes]
    lr: bytes | None = None
    hr: bytes | None = None


@dataclass(frozen=True)
class Study:
    """What people are asked: a grade for every result, or a preference for every two results of an image.

    title: above the page, `TITLE` where it is empty. question: above the answers; by default one that fits mode and
    reference. reference: whether HR is shown, too. secret: of the ids; that of the old key for a page that is made
    again. ValueError for a study without images, a key that is there twice, a pair that lacks a method, a reference
    that lacks HR, and a title or a question that names a method: ours are not looked at, for they name none.
    """

    title: str
    mode: Mode
    items: Sequence[StudyItem]
    question: str = ""
    reference: bool = True
    secret: str = field(default_factory=lambda: secrets.token_hex(16))

    def __post_init__(self) -> None:
        if self.mode not in ("grades", "pairs"):
            raise ValueError(f"a study asks for grades or pairs, not {self.mode!r}")
        if not self.items:
            raise ValueError("a study needs at least one image")
        if len({item.key for item in self.items}) < len(self.items):
            raise ValueError("a study needs each image once")
        least = 2 if self.mode == "pairs" else 1
        for item in self.items:
            if len(item.results) < least:
                raise ValueError(f"{item.key} has {len(item.results)} of the {least} results that {self.mode} need")
            if self.reference and item.hr is None:
                raise ValueError(f"{item.key} has no HR image: a study without reference does not need one")
        for method in dict.fromkeys(chain.from_iterable(item.results for item in self.items)):
            if re.search(rf"(?<!\w){re.escape(method)}(?!\w)", f"{self.title}\n{self.question}", re.IGNORECASE):
                raise ValueError(f"the study's title or question names the method {method}: nobody would be blind")

    @cached_property
    def id(self) -> str:
        """The study's own: another one when images, methods, mode, question or reference are others."""
        shown = sorted(result for item in self.items for result in self.result_ids(item))
        return self._id("study", self.mode, self.asked, str(self.reference), *shown)

    @property
    def heading(self) -> str:
        """The title as it is shown."""
        return self.title or TITLE

    @property
    def asked(self) -> str:
        """The question as it is shown."""
        if self.question:
            return self.question
        if self.mode == "grades":
            return "How good is the result?"
        return "Which one is closer to the original?" if self.reference else "Which one looks better?"

    def item_id(self, item: StudyItem) -> str:
        return self._id("item", item.key)

    def result_ids(self, item: StudyItem) -> dict[str, str]:
        """Methods by id, sorted by id, which says nothing about the methods."""
        ids = {self._id("result", item.key, method, _digest(png)): method for method, png in item.results.items()}
        return dict(sorted(ids.items()))

    def guides(self, item: StudyItem) -> dict[str, bytes]:
        """The images that help to judge: lr in grades, hr where the reference is shown."""
        found = {"lr": item.lr if self.mode == "grades" else None, "hr": item.hr if self.reference else None}
        return {name: png for name, png in found.items() if png is not None}

    def guide_ids(self, item: StudyItem) -> dict[str, str]:
        return {name: self._id(name, item.key, _digest(png)) for name, png in self.guides(item).items()}

    def images(self) -> Iterator[tuple[str, bytes]]:
        """Id and PNG file of every image that is shown; those beside the page are called `ID.png`."""
        for item in self.items:
            for result, method in self.result_ids(item).items():
                yield result, item.results[method]
            yield from zip(self.guide_ids(item).values(), self.guides(item).values(), strict=True)

    def _id(self, *parts: str) -> str:
        text = "\0".join(part.replace("\0", "\0\0") for part in parts)
        return hmac.new(self.secret.encode(), text.encode("utf-8", "surrogatepass"), "sha256").hexdigest()[:16]


class KeyItem(BaseModel):
    """An image of a study: its id and key, and the method of each result's id."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Id
    key: str
    results: dict[Id, str]


class StudyKey(BaseModel):
    """What a study's key holds: what was asked, and the names behind the ids."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    version: Literal[1] = 1
    id: Id
    secret: str
    title: str
    mode: Mode
    question: str
    reference: bool
    items: list[KeyItem]


def study_key(study: Study) -> StudyKey:
    """The names behind the study's ids."""
    items = [KeyItem(id=study.item_id(item), key=item.key, results=study.result_ids(item)) for item in study.items]
    return StudyKey(
        id=study.id,
        secret=study.secret,
        title=study.heading,
        mode=study.mode,
        question=study.asked,
        reference=study.reference,
        items=items,
    )


def write_study(study: Study) -> bytes:
    """The study's key as JSON. Keep it from those who rate; without it nobody can say which method a rating is of."""
    return (study_key(study).model_dump_json(indent=2) + "\n").encode()


def read_study(text: bytes, name: str) -> StudyKey:
    """The key that `write_study` made. ValueError, one line that begins with the text's name, for other texts."""
    try:
        return StudyKey.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(f"{name}: names no methods of a study: {first_problem(error)}") from None


def first_problem(error: ValidationError) -> str:
    """What is wrong with a file, in one short line whatever the file holds."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    place = ".".join(ascii(part).strip("'")[:40] for part in problem["loc"])
    text = ascii(problem["msg"]).strip("'\"")[:120]
    return f"{place}: {text}" if place else text


def _digest(png: bytes) -> str:
    return hashlib.sha256(png).hexdigest()
