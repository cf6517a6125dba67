"""One more of each kind is one file and one line: a toy of it, registered as docs/contributing/add.md says, works."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from tests.flows.reporting import images
from tests.prefect_services import PrefectServer, PrefectWorker

RUN = """
import sys
from flows.__main__ import main
sys.argv = ["dtls", *sys.argv[1:]]
main()
"""

METRIC = """
from reports.metrics import registry
from reports.metrics.metric import Compared, SampleMetric

def worst(images: Compared):
    return (images.sr.int() - images.hr.int()).abs().amax(dim=(1, 2, 3)).double()

registry.METRICS = (
    *registry.METRICS,
    SampleMetric(
        name="worst",
        label="Worst pixel",
        unit="levels",
        decimals=0,
        lower_is_better=True,
        description="largest difference of a sample",
        is_primary=True,
        needs=frozenset({"hr"}),
        compute=worst,
    ),
)
"""

IMAGE_FORMAT = """
from storage.images import formats

formats.FORMATS = (*formats.FORMATS, formats.ImageFormat("ppm", "PPM", (".ppm",), rb"P6\\s"))
"""

ARCHIVE = """
from contextlib import contextmanager

from storage.archives import kinds
from storage.archives.archive import Archive
from storage.archives.tars import Member

class Lines(Archive):
    kind = "lines"
    endings = ("lines",)
    magic = (b"LINES\\n",)
    is_written = True

    @classmethod
    @contextmanager
    def adding(cls, file):
        file.write(cls.magic[0])
        yield lambda key, data: file.write(f"{key} {len(data)}\\n".encode() + data)

    def _index(self, file):
        place = len(self.magic[0])
        while line := file.read(place, 100).partition(b"\\n")[0].decode("latin-1"):
            name, size = line.split(" ")
            yield Member(name, place + len(line) + 1, int(size), "")
            place += len(line) + 1 + int(size)

    def _etag(self, number):
        return f"{self._file.etag}-{self._offsets[number]}"

    def _read(self, number, size):
        return self.place.fetch(self._file, self._offsets[number], size)

kinds.KINDS = (Lines, *kinds.KINDS)
"""

HALVE = '''
"""`dtls/halve`: images become images of half their size."""

from pydantic import Field

from flows.engine.flow import flow
from flows.inputs.methods import Reduction
from flows.inputs.selection import SelectionOptions, Target
from flows.interface.options import Address
from flows.transform.run import transform
from flows.transform.sizes import Reduced
from flows.transform.spec import ImageTransform


class HalveOptions(SelectionOptions):
    """Which images to halve."""

    source: Address = Field(description="folder of the images")
    target: Target = Field(description="folder for the results")


@flow("halve {options.source}")
def halve(options: HalveOptions) -> str:
    """Halve the size of images."""
    recipe = ImageTransform("halve", Reduction("antialias"), Reduced(2.0))
    return transform(recipe, options.source, options.target, options)
'''
"""A flow: its options and a call. As a module of `flows` it is a command, and as a file a deployment."""

COMMAND = """
import flows
from flows.cli import COMMANDS, IMAGES, Command

flows.__path__.append(".")
COMMANDS["halve"] = Command(
    "halve", "HalveOptions", IMAGES, "Halve the size of images.", ("source", "target"), ("dtls halve hr lr",)
)
"""


def dtls_with(toy: str, *arguments: object, cwd: Path) -> str:
    """What the command line prints in a process where a toy was registered first."""
    command = [sys.executable, "-c", toy + RUN, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.slow
def test_a_metric_reaches_the_table_the_summary_and_the_page(tmp_path: Path) -> None:
    images(tmp_path, count=2, side=16)
    results = [f"--sr={name}={name}" for name in ("good", "poor")]
    dtls_with(METRIC, "report", "--hr=hr", *results, "--out=out", "--lpips=none", "--device=cpu", cwd=tmp_path)
    table = pd.read_parquet(tmp_path / "out/metrics.parquet")
    means = table.groupby("method")["worst"].mean()
    assert 0 < means["good"] <= means["poor"] <= 255
    summary = json.loads((tmp_path / "out/summary.json").read_text())
    assert {row["method"]: row["worst"] for row in summary["methods"]} == means.to_dict()
    assert summary["metrics"]["worst"] == {
        "unit": "levels",
        "better": "lower",
        "description": "largest difference of a sample",
    }
    assert "Worst pixel ↓ (levels)" in (tmp_path / "out/summary.md").read_text()
    assert r"Worst pixel $\downarrow$ (levels)" in (tmp_path / "out/summary.tex").read_text()
    assert '"label":"Worst pixel"' in (tmp_path / "out/index.html").read_text()


@pytest.mark.slow
def test_images_of_a_format_are_sources_by_their_names_and_by_their_content(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    colours = {"named.ppm": (200, 30, 30), "without": (30, 30, 200)}
    for name, colour in colours.items():
        Image.new("RGB", (16, 8), colour).save(tmp_path / "in" / name, "PPM")
    dtls_with(IMAGE_FORMAT, "downscale", "in", "out", "--scale=2", "--by-content", cwd=tmp_path)
    for name, colour in colours.items():
        with Image.open((tmp_path / "out" / name).with_suffix(".png")) as image:
            assert (image.size, image.getpixel((0, 0))) == ((8, 4), colour)


@pytest.mark.slow
def test_a_type_of_archive_is_a_target_and_a_source(tmp_path: Path) -> None:
    images(tmp_path, count=3, side=16)
    dtls_with(ARCHIVE, "downscale", "hr", "half.lines", "--scale=2", cwd=tmp_path)
    assert (tmp_path / "half.lines").read_bytes().startswith(b"LINES\n0.png ")
    (tmp_path / "half.lines").rename(tmp_path / "unnamed")
    dtls_with(ARCHIVE, "downscale", "unnamed", "quarter", "--scale=2", cwd=tmp_path)
    assert {path.name: Image.open(path).size for path in (tmp_path / "quarter").glob("*.png")} == {
        f"{number}.png": (4, 4) for number in range(3)
    }


@pytest.mark.slow
def test_a_flow_is_a_command_with_help_receipts_and_all_options_of_its_kind(tmp_path: Path) -> None:
    images(tmp_path, count=3, side=16)
    (tmp_path / "halve.py").write_text(HALVE)
    assert "Halve the size of images." in dtls_with(COMMAND, "--help", cwd=tmp_path)
    shown = dtls_with(COMMAND, "halve", "--help", cwd=tmp_path)
    assert all(word in shown for word in ("folder of the images", "--retry-failed", "dtls halve hr lr"))
    assert "3 done" in dtls_with(COMMAND, "halve", "hr", "half", cwd=tmp_path)
    assert {Image.open(path).size for path in (tmp_path / "half").glob("*.png")} == {(8, 8)}
    assert "3 already done" in dtls_with(COMMAND, "halve", "hr", "half", cwd=tmp_path)


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.usefixtures("prefect_worker")
def test_a_flow_is_a_deployment_with_a_form(prefect_server: PrefectServer, tmp_path: Path) -> None:
    images(tmp_path, count=3, side=16)
    (tmp_path / "halve.py").write_text(HALVE)
    made = prefect_server.cli(
        "--no-prompt", "deploy", "halve.py:halve", "--name", "halve", "--pool", PrefectWorker.pool, cwd=tmp_path
    )
    assert made.returncode == 0, made.stdout
    form = prefect_server.api("GET", "/deployments/name/dtls/halve")["parameter_openapi_schema"]
    assert form["definitions"]["HalveOptions"]["properties"]["source"]["description"] == "folder of the images"
    options = {"source": str(tmp_path / "hr"), "target": str(tmp_path / "half")}
    run = prefect_server.start_run("dtls/halve", {"options": options})
    assert prefect_server.wait_for_final_state(run, 120) == "COMPLETED", prefect_server.flow_run_logs(run)
    assert len([*(tmp_path / "half").glob("*.png")]) == 3
