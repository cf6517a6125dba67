"""The README and the documentation: commands are accepted, links resolve, code compiles, pages are current."""

import ast
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

import dtls
from tests.reference_pages import PAGES as GENERATED
from tests.reference_pages import commands, options_of

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *ROOT.glob("dtls/weights/*/README.md")]
FENCE = re.compile(r"^([ ]*)```(\w*)[^\n]*\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"`((?:dtls|storage|reports|flows|tests|deploy|\.ci)/(?:[\w.-]+/)*(?:[\w-]+\.\w+)?)`")
INLINE = re.compile(r"`(dtls [a-z][^`]*)`")
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
SNIPPET = re.compile(r'^--8<-- "([^"]+)"$', re.MULTILINE)
BETWEEN = "&|;<>"
"""What stands between programs in a line."""
MAX_LINES = 150
COMING = {"reports/metrics/registry.py", "dtls/registry.py"}
"""Files that the documentation of this version has already, and the code not yet."""


class Block(NamedTuple):
    """A block of code of a page."""

    page: Path
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}: {self.text.strip().splitlines()[0]:.60}"


def blocks(*languages: str) -> list[Block]:
    """The blocks of these languages in all pages, without their indentation."""
    return [
        Block(page, match[2], re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE))
        for page in PAGES
        for match in FENCE.finditer(page.read_text())
        if match[2] in languages
    ]


def command_lines() -> Iterator[tuple[Path, list[str]]]:
    """The words of each command in the shell's blocks of all pages, one program each."""
    for page, language, text in blocks("sh", "console"):
        joined = re.sub(r"\\\n\s*", " ", text)
        if language == "console":
            joined = "\n".join(line[2:] for line in joined.splitlines() if line.startswith("$ "))
        lexer = shlex.shlex(joined.replace("\n", "\n;"), posix=True, punctuation_chars=BETWEEN)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in (*lexer, ";"):
            if word and set(word) <= set(BETWEEN):
                yield page, words
                words = []
            elif words or not re.match(r"\w+=", word):
                words.append(word)


PROGRAMS = [(page, words) for page, words in command_lines() if words]
OURS = [(page, words[1:]) for page, words in PROGRAMS if words[0].rpartition("/")[2] == "dtls"]
MODULES = sorted({words[2] for _, words in PROGRAMS if words[0] in ("python", "python3") and words[1] == "-m"})
RUNS = [words for _, words in PROGRAMS if words[:3] == ["prefect", "deployment", "run"]]
LINES = [words[2] for _, words in PROGRAMS if words[:2] == ["python", "-c"]]
"""Of Python, within a command."""
FORMER = {"dtls compare", "dtls report --compare"}
"""Names of the version before, which the changelog mentions."""
MENTIONED = sorted(
    {(page, text) for page in PAGES for text in INLINE.findall(page.read_text().replace("\n", " "))}
    - {(ROOT / "CHANGELOG.md", text) for text in FORMER}
)


@pytest.mark.parametrize(("page", "words"), OURS, ids=lambda x: " ".join(x) if isinstance(x, list) else x.name)
def test_a_command_is_accepted(page: Path, words: list[str]) -> None:
    if not words or words[0].startswith("--"):
        assert words in (["--help"], ["--version"])
        return
    name, *arguments = words
    command = commands()[name]
    if arguments == ["--help"]:
        return
    values = command.make_context(name, arguments).params
    options_of(name)(**{key: value for key, value in values.items() if value is not None})


@pytest.mark.parametrize(("page", "text"), MENTIONED, ids=lambda x: x if isinstance(x, str) else x.name)
def test_a_command_that_is_mentioned_exists_with_its_options(page: Path, text: str) -> None:
    name = text.split()[1]
    command = commands()[name]
    known = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)} | {"--help"}
    assert set(re.findall(r"(?<=\s)--[\w-]+", text)) <= known


@pytest.mark.parametrize("words", RUNS, ids=" ".join)
def test_a_run_of_a_deployment_is_accepted(words: list[str]) -> None:
    deployments = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    name = words[3].removeprefix("dtls/")
    assert name in {deployment["name"] for deployment in deployments}
    if "--params" in words:
        options_of(name)(**json.loads(words[words.index("--params") + 1])["options"])


@pytest.mark.parametrize("module", MODULES)
def test_a_module_that_is_run_exists(module: str) -> None:
    assert find_spec(module)


OF_OTHERS = ("mlxtend",)
"""Packages that no extra of this project installs; the page says that they are needed."""


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.name)
def test_a_python_snippet_compiles_and_imports_what_there_is(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] not in OF_OTHERS:
            module = __import__(node.module, fromlist=["_"])
            assert all(hasattr(module, name.name) for name in node.names)


@pytest.mark.parametrize("line", LINES)
def test_a_python_line_compiles(line: str) -> None:
    ast.parse(line)


@pytest.mark.parametrize("block", blocks("yaml", "yml"), ids=lambda block: block.name)
def test_a_yaml_snippet_parses(block: Block) -> None:
    assert yaml.safe_load(block.text)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
        if re.match(r"(https?|mailto):", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", [page for page in PAGES if page.is_relative_to(DOCS)], ids=lambda page: page.name)
def test_a_page_links_within_the_site_alone(page: Path) -> None:
    links = [link.partition("#")[0] for link in LINK.findall(FENCE.sub("", page.read_text()))]
    inner = [link for link in links if link and not re.match(r"(https?|mailto):", link)]
    assert all((page.parent / link).resolve().is_relative_to(DOCS) for link in inner)


@pytest.mark.parametrize("page", [*DOCS.rglob("*.md"), ROOT / "CONTRIBUTING.md"], ids=lambda page: page.name)
def test_a_file_that_is_named_is_there(page: Path) -> None:
    """NAME stands for one that a reader writes."""
    named = {file for file in FILE.findall(FENCE.sub("", page.read_text())) if "NAME" not in file}
    missing = {file for file in named if not (ROOT / file).exists()} - COMING
    assert not missing


def anchors(page: Path) -> set[str]:
    """What the headings of a page, and of what it includes, are called in addresses."""
    text = SNIPPET.sub(lambda match: (ROOT / match[1]).read_text(), page.read_text())
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


def test_every_page_is_in_the_navigation() -> None:
    written = (ROOT / "mkdocs.yml").read_text()
    listed = re.findall(r"[\w/-]+\.md", written.partition("\nnav:")[2])
    assert sorted(listed) == sorted(str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md"))


def test_what_is_cited_is_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (cited["version"], cited["license"]) == (dtls.__version__, project["license"])
    assert len(cited["references"]) == 2


def test_the_readme_is_a_front_door() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= MAX_LINES


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_an_image_is_called_an_image(page: Path) -> None:
    assert "pic" + "ture" not in page.read_text().lower()


@pytest.mark.parametrize("page", GENERATED, ids=lambda page: page.name)
def test_a_generated_page_is_current(page: Path) -> None:
    """`make docs` writes it."""
    assert page.read_text() == GENERATED[page]()
