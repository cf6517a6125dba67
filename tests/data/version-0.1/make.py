"""Write kept.tar.xz, which README.md describes: `python make.py FOLDER` makes its files in a new folder."""

import json
import os
import shutil
import sys
import tarfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from skimage import data

from flows.cli import main

TINY = "--size 32 --lr-size 16 --batch-size 2 --learning-rate 0.001 --schedule constant --device cpu --workers 0"
TRAIN = {
    "dtls": "--dim 4 --dim-mults 1 --stride 8 --protocol antialias",
    "cold": "--method cold --dim 4 --dim-mults 1 --stride 8 --protocol antialias",
    "sr3": "--method sr3 --network width=8 --network levels=1 --network timesteps=4",
}
HOW = "--scale 2 --unit-size 2 --device cpu --precision fp32"
LARGE = "--method bicubic --scale 1.5 --max-failed 1"
REPORT = "report --hr photos/faces --lr lr --sr dtls=sr/dtls --sr bicubic=sr/bicubic --device cpu --gallery 2"


def dtls(command: str) -> None:
    """Run the command line in this process."""
    sys.stderr.write(f"$ dtls {command}\n")
    sys.argv = ["dtls", *command.split()]
    try:
        main()
    except SystemExit as end:
        if end.code:
            raise


def photographs() -> None:
    """Six images of 32×32 of several kinds, and a text that is named as one; their times are round."""
    faces = Path("photos/faces")
    faces.mkdir(parents=True)
    photograph: Any = data.astronaut
    whole = Image.fromarray(photograph()).crop((160, 40, 352, 168))
    corners = [(left, top) for top in (0, 64) for left in (0, 64, 128)]
    crops = [whole.crop((left, top, left + 64, top + 64)).reduce(2) for left, top in corners]
    exif = Image.Exif()
    exif[0x8298] = "somebody"  # Copyright
    crops[3].putalpha(Image.fromarray(np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))))
    deep = np.asarray(crops[4].convert("L")).astype(np.uint16) * 257
    crops[0].save(faces / "0.png")
    crops[1].save(faces / "1.jpg", quality=90, exif=exif)
    crops[2].convert("L").save(faces / "2.png")
    crops[3].save(faces / "3.png")
    Image.fromarray(deep).save(faces / "4.png")
    crops[5].save(faces / "5.png")
    Path("photos/broken.png").write_bytes(b"text ".ljust((faces / "5.png").stat().st_size, b"."))
    for number, path in enumerate(sorted(Path("photos").rglob("*.*"))):
        time = 1_700_000_000_000_000_000 + number
        os.utime(path, ns=(time, time))


def train() -> None:
    """Three trainings of two steps, and the losses of each after a third one."""
    Path("resumed").mkdir()
    for name, network in TRAIN.items():
        command = f"train shards models/{name} {network} {TINY} --keep 1"
        dtls(f"{command} --steps 2")
        shutil.copytree(f"models/{name}", "copy")
        dtls(f"{command} --steps 3 --resume".replace(f"models/{name}", "copy"))
        shutil.copy("copy/loss.csv", f"resumed/{name}.csv")
        shutil.rmtree("copy")


def stop_before_the_end(command: str) -> None:
    """Run a command whose source cannot be reached any more for one of its last images."""
    pictures: Any = import_module("flows.pictures")
    storage: Any = import_module("storage.locations")
    fetch: Callable[..., Any] = pictures.Transform._fetch

    def fails(self: Any, entry: Any) -> Any:
        if entry.key == "faces/4.png":
            raise storage.UnavailableError("the network is gone")
        return fetch(self, entry)

    pictures.Transform._fetch = fails
    try:
        dtls(command)
    except SystemExit:
        pictures.Transform._fetch = fetch


def answer(study: Path, path: Path) -> None:
    """What somebody would save from the rating page of a study."""
    said = json.loads(study.read_text())
    common = {"repeat": False, "seconds": 2.0, "time": "2026-11-21T10:00:00Z"}
    shown = [(item["id"], result) for item in said["items"] for result in item["results"]]
    ratings = [
        {"order": n, "item": item, "shown": [result], "grade": n % 4 + 1, **common}
        for n, (item, result) in enumerate(shown)
    ]
    head = {"format": "ratings", "version": 1, "study": said["id"], "mode": "grades", "planned": len(ratings)}
    person = {"rater": "somebody", "session": "0" * 32, "seed": 1, "started": "2026-11-21T10:00:00Z"}
    path.write_text(json.dumps({**head, **person, "ratings": ratings}))


def make() -> None:
    """All of it, in the current folder."""
    photographs()
    dtls("shard photos shards --samples-per-shard 3 --max-failed 1")
    train()
    dtls("downscale photos/faces lr --scale 2 --protocol antialias")
    for name in TRAIN:
        dtls(f"upscale lr sr/{name} --checkpoint models/{name} {HOW}")
    dtls("upscale lr sr/bicubic --method bicubic --scale 2")
    dtls(f"upscale photos large {LARGE} --unit-size 2")
    dtls(f"upscale photos large.zip {LARGE} --unit-size 2")
    dtls(f"upscale photos large-shards {LARGE} --samples-per-shard 3")
    stop_before_the_end(f"upscale photos half {LARGE} --unit-size 2 --workers 1 --in-flight 1")
    dtls(f"{REPORT} --out reports/first --run monday --rating grades")
    answer(Path("reports/first/study.json"), Path("answers.json"))
    dtls(f"{REPORT} --out reports/first --run monday --ratings answers.json")
    dtls(f"{REPORT} --out reports/second --run tuesday --lpips none --colour y")


def pack(archive: Path) -> None:
    """Put the current folder into an archive, and into times.json what tars do not keep: times in nanoseconds."""
    times = {str(path): path.stat().st_mtime_ns for path in sorted(Path().rglob("*")) if path.is_file()}
    Path("times.json").write_text(json.dumps(times, indent=0) + "\n")
    with tarfile.open(archive, "w:xz", preset=9) as tar:
        for name in [*times, "times.json"]:
            member = tarfile.TarInfo(name)
            member.size = Path(name).stat().st_size
            with Path(name).open("rb") as file:
                tar.addfile(member, file)


if __name__ == "__main__":
    kept = Path(__file__).resolve().with_name("kept.tar.xz")
    Path(sys.argv[1]).mkdir()
    os.chdir(sys.argv[1])
    make()
    pack(kept)
