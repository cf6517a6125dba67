"""The letters of figures and contact sheets: DejaVu Sans, and installed fonts for what that lacks.

What no font has is written as its code, like `\\u8d85`, and never as an empty box.
"""

import logging
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import ImageFont

logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)  # of weights that a font lacks

if TYPE_CHECKING:
    from matplotlib.ft2font import FT2Font

MAIN = "DejaVu Sans"
PREFERRED = (
    *("Noto Sans CJK JP", "Noto Sans CJK", "Source Han Sans", "WenQuanYi", "IPAexGothic", "IPAGothic", "Takao"),
    *("Droid Sans Fallback", "PingFang", "Hiragino", "Microsoft YaHei", "Yu Gothic", "MS Gothic", "Malgun Gothic"),
    *("Noto Sans", "Arial Unicode MS", "Symbola", "Unifont"),
)
"""Families that are asked first; any other comes after them, by its file's name."""
PLAIN = ("Regular", "Book", "Roman", "Normal", "Medium")
JOINERS = "\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}"
PACKAGES = {"CJK": "fonts-noto-cjk", "HIRAGANA": "fonts-noto-cjk", "KATAKANA": "fonts-noto-cjk"}
PACKAGES |= {"HANGUL": "fonts-noto-cjk", "BOPOMOFO": "fonts-noto-cjk", "IDEOGRAPHIC": "fonts-noto-cjk"}
TOLD = 10
OTHER_PACKAGE, SYMBOLS_PACKAGE = "fonts-noto-core", "fonts-symbola"


class FontError(OSError):
    """Letters that no installed font has."""


@dataclass(frozen=True)
class Face:
    """Letters of one size in pixels, each from the first font that has it."""

    size: int
    bold: bool = False

    @property
    def main(self) -> ImageFont.FreeTypeFont:
        return _opened(_main(bold=self.bold), self.size)

    def lowered(self, font: ImageFont.FreeTypeFont) -> int:
        """By how much letters of another font start lower, to stand on the line of the main one."""
        return self.main.getmetrics()[0] - font.getmetrics()[0]

    def getlength(self, text: str) -> float:
        return sum(font.getlength(part) for part, font in self.runs(text))

    def runs(self, text: str) -> Iterator[tuple[str, ImageFont.FreeTypeFont]]:
        """The text in parts of one font each."""
        others = _others(text)
        part, font = "", self.main
        for letter in text:
            wanted = _opened(others[letter], self.size) if letter in others else self.main
            if part and wanted is not font:
                yield part, font
                part = ""
            part, font = part + letter, wanted
        if part:
            yield part, font


def readable(text: str) -> str:
    """The text in one line of letters that there are: composed, and what no font has as its code."""
    unknown = set(missing(text))
    return "".join(_coded(c) if c in unknown else c for c in _composed(text) if not _is_variant(c))


def missing(text: str) -> str:
    """The letters of a text that no installed font has, each once."""
    text = _composed(text)
    others = _others(text)
    return "".join(c for c in dict.fromkeys(text) if not (_has(c) or c in others or c in JOINERS or _is_variant(c)))


def _composed(text: str) -> str:
    return unicodedata.normalize("NFC", " ".join(text.split()))


def families(text: str) -> list[str]:
    """The fonts of a text as matplotlib takes them, told to it: the main one and those that have what it lacks."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    known = {entry.fname for entry in fontManager.ttflist}
    found = [MAIN]
    for path in dict.fromkeys(_others(_composed(text)).values()):
        if path not in known:
            fontManager.addfont(path)
        found.append(FT2Font(path).family_name)
    return found


def check_unreadable(names: str, what: str) -> None:
    """FontError for names with letters that no installed font has."""
    if unknown := missing(names):
        raise FontError(f"{what}: {lacking(unknown)}, or give other names")


def lacking(unknown: str) -> str:
    """That no installed font has some letters, and what to install."""
    packages = " and ".join(dict.fromkeys(map(_package, unknown)))
    told = " ".join(unknown[:TOLD]) + " …" * (len(unknown) > TOLD)
    return f"no installed font has {told}; install one, such as that of the package {packages}"


def _is_variant(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith("VARIATION SELECTOR")


def _coded(letter: str) -> str:
    return letter.encode("ascii", "backslashreplace").decode() if ord(letter) > 127 else f"\\x{ord(letter):02x}"


def _package(letter: str) -> str:
    if unicodedata.category(letter) == "So":
        return SYMBOLS_PACKAGE
    return PACKAGES.get(unicodedata.name(letter, "").partition(" ")[0], OTHER_PACKAGE)


def _has(letter: str) -> bool:
    """Whether the main font has a letter that is one to be shown."""
    return bool(letter.isprintable() and _main_glyphs().get_char_index(ord(letter)))


def _others(text: str) -> dict[str, str]:
    """For letters that the main font lacks, the files of the fonts that have them."""
    lacking = frozenset(c for c in text if c.isprintable() and not _has(c) and not _is_variant(c))
    return _found(lacking) if lacking else {}


@lru_cache(maxsize=256)
def _found(lacking: frozenset[str]) -> dict[str, str]:
    """The first font that has each of these letters."""
    found: dict[str, str] = {}
    for path in _installed():
        glyphs = _glyphs(path)
        found |= {c: path for c in lacking - found.keys() if glyphs.get_char_index(ord(c))}
        if len(found) == len(lacking):
            break
    return found


@lru_cache(maxsize=1)
def _installed() -> tuple[str, ...]:
    """The files of all fonts that scale, the preferred ones first."""
    from matplotlib.font_manager import findSystemFonts

    ranked = []
    for path in findSystemFonts():
        try:
            face = _glyphs(path)
        except (OSError, RuntimeError, ValueError):  # of a kind that is not read
            continue
        if face.scalable:
            ranked.append((_rank(face), path))
    return tuple(path for _, path in sorted(ranked))


def _rank(face: "FT2Font") -> tuple[int, bool]:
    name = face.family_name
    place = next((n for n, family in enumerate(PREFERRED) if name.startswith(family)), len(PREFERRED))
    return place, face.style_name not in PLAIN


@lru_cache(maxsize=1)
def _main_glyphs() -> "FT2Font":
    return _glyphs(_main())


def _glyphs(path: str) -> "FT2Font":
    from matplotlib.ft2font import FT2Font

    return FT2Font(path)


@lru_cache(maxsize=2)
def _main(*, bold: bool = False) -> str:
    """The file of DejaVu Sans, which matplotlib brings along: it has ×, ∞, –, arrows, Greek, Cyrillic and Arabic."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name)


@lru_cache(maxsize=64)
def _opened(path: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)
