"""The command line: exit codes, one clear line for whatever users get wrong, and help that shows how."""

import signal
import subprocess
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from storage.stores import s3 as room
from tests.command_line import Command, Result
from tests.services import wait_until

COMMANDS = (
    *("demo", "shard", "train", "downscale", "degrade", "upscale", "restore", "generate", "report"),
    "import-checkpoint",
)


def complaint(result: Result, code: int = 1) -> str:
    """The one line that says what went wrong."""
    assert result.code == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("dtls: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@pytest.fixture
def one(tmp_path: Path, photographs: Path) -> Path:
    """A folder with one photograph."""
    folder = tmp_path / "one"
    folder.mkdir()
    Image.open(photographs / "00000" / "00000.png").save(folder / "photo.png")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(dtls: Command, command: str) -> None:
    result = dtls(command, "--help")
    assert result.code == 0
    assert f"dtls {command}" in result.stdout.split("Example")[-1]


def test_a_command_answers_to_its_former_name_and_help_lists_the_new_one(dtls: Command) -> None:
    assert "--lr-sizes" in dtls("compare", "--help").stdout
    commands = dtls("--help").stdout
    assert "benchmark" in commands
    assert "│ compare " not in commands


@pytest.mark.parametrize(
    "arguments",
    [
        ("shard", "only-one"),
        ("shard", "a", "b", "--size", "many"),
        ("shard", "a", "b", "--size", "1"),
        ("train", "a", "b", "--preset", "17-129"),
        ("frobnicate",),
    ],
)
def test_wrong_use_is_exit_code_2(dtls: Command, arguments: tuple[str, ...]) -> None:
    result = dtls(*arguments)
    assert result.code == 2
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("upscale", "a", "b", "--scale", "2", "--size", "9"), "--scale and --size exclude each other"),
        (("upscale", "a", "b", "--scale", "-2"), "dtls: --scale must be greater than 1 (got -2)"),
        (("upscale", "a", "b", "--runner", "dask", "--scheduler", "x"), "dtls: --scheduler must match "),
        (("upscale", "", "b"), "dtls: SOURCE must not be empty"),
        (("upscale", "a"), "dtls: TARGET is required, e.g. dtls upscale photographs large --scale 4"),
        (("downscale", "a", "b"), "dtls: --scale is required, e.g. dtls downscale hr lr --scale 8"),
        (("shard", "a", "b", "--size", "many"), "dtls: --size must be a whole number"),
        (("upscale", "a", "b", "--scale", "big"), "dtls: --scale must be a number"),
        (("shard", "a", "b", "--sizze", "8"), "--sizze (Possible options: --size); `dtls shard --help` lists"),
        (("train", "a", "b", "--preset", "17"), "dtls: --preset: '17' is not one of '16-128'"),
        (("upscale", "a", "b", "--method", "dtls", "--scale", "2"), "needs a checkpoint"),
        (("report", "--hr", "a", "--lr", "b", "--sr", "nameless", "--out", "c"), "NAME=FOLDER"),
        (("train", "a", "b", "--dim-mults", "1,two"), "dim-mults"),
    ],
)
def test_options_that_do_not_go_together_are_exit_code_2(
    dtls: Command, arguments: tuple[str, ...], words: str
) -> None:
    assert words in complaint(dtls(*arguments), code=2)


def test_the_version_is_told(dtls: Command) -> None:
    assert dtls("--version") == Result(0, f"dtls {version('dtls')}\n", "")


def test_a_misspelled_command_is_guessed(dtls: Command) -> None:
    result = dtls("upscal", "a", "b")
    assert result.code == 2
    assert "Did you mean 'upscale'?" in result.stderr


def test_what_an_error_repeats_does_nothing_to_a_terminal(dtls: Command, tmp_path: Path) -> None:
    line = complaint(dtls("shard", tmp_path / "gone\x1b[2J\nhere", tmp_path / "shards"))
    assert "gone\ufffd[2J here: no such folder" in line


def test_a_missing_folder(dtls: Command, tmp_path: Path) -> None:
    line = complaint(dtls("shard", tmp_path / "gone", tmp_path / "shards"))
    assert f"{tmp_path / 'gone'}: no such folder" in line
    assert not (tmp_path / "shards").exists()


def test_an_empty_folder(dtls: Command, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no images there" in complaint(dtls("shard", tmp_path / "empty", tmp_path / "shards"))


def test_a_file_for_a_folder(dtls: Command, one: Path, tmp_path: Path) -> None:
    (one / "keys.txt").write_text("photo.png")
    told = complaint(dtls("shard", one / "keys.txt", tmp_path / "shards"))
    assert "keys.txt: neither a folder, nor an archive, nor an image" in told


@pytest.mark.slow
def test_two_files_with_the_same_key(dtls: Command, one: Path, tmp_path: Path) -> None:
    (one / "photo.jpg").write_bytes((one / "photo.png").read_bytes())
    assert dtls("upscale", one, tmp_path / "sr", "--method", "bicubic", "--scale", 2).code == 0
    assert {path.name for path in (tmp_path / "sr").glob("*.png")} == {"photo.png", "photo.jpg.png"}
    done = dtls("report", "--hr", one, "--sr", f"same={one}", "--out", tmp_path / "report", "--lpips", "none")
    assert done.code == 0
    assert pd.read_parquet(tmp_path / "report" / "metrics.parquet").key.tolist() == ["photo.jpg", "photo.png"]
    (tmp_path / "hr").mkdir()
    (tmp_path / "hr" / "photo.tif").write_bytes((one / "photo.png").read_bytes())
    line = complaint(dtls("report", "--hr", tmp_path / "hr", "--sr", f"same={one}", "--out", tmp_path / "other"))
    assert "photo.jpg and photo.png have the same key 'photo'" in line


def test_a_folder_that_is_no_checkpoint(dtls: Command, one: Path, tmp_path: Path) -> None:
    line = complaint(dtls("upscale", one, tmp_path / "sr", "--checkpoint", tmp_path, "--scale", 2))
    assert f"{tmp_path}: no config.json there" in line


def test_broken_images_are_recorded_and_the_rest_goes_on(
    dtls: Command, one: Path, bad_images: dict[str, Path], tmp_path: Path
) -> None:
    for name, path in bad_images.items():
        (one / f"{path.stem}-{path.suffix[1:]}{path.suffix}").write_bytes(path.read_bytes())
        assert name
    result = dtls("upscale", one, tmp_path / "sr", "--method", "bicubic", "--scale", 2)
    assert "of 5 images failed" in complaint(result)
    manifest = pd.read_parquet(tmp_path / "sr" / "manifest.parquet").set_index("key")
    assert manifest.loc["photo.png"].status == "ok"
    assert (manifest.drop("photo.png").status == "failed").all()
    assert manifest.drop("photo.png").reason.str.contains("image").all()
    assert [path.name for path in (tmp_path / "sr").glob("*.png")] == ["photo.png"]
    tolerant = dtls("upscale", one, tmp_path / "sr", "--method", "bicubic", "--scale", 2, "--max-failed", 1)
    assert tolerant.code == 0


def test_credentials_in_an_address_are_refused_and_not_repeated(dtls: Command, tmp_path: Path) -> None:
    result = dtls("shard", "s3://someone:sesame@bucket/photos", tmp_path)
    assert "credentials do not belong in an address" in complaint(result)
    assert "sesame" not in result.stderr


@pytest.mark.slow
def test_an_s3_server_that_is_not_there(dtls: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "IMPATIENCE", 0.1)
    environment = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "sesame",
    }
    result = dtls("shard", "s3://bucket/photos", tmp_path, **environment)
    assert "s3://bucket/photos" in complaint(result)
    assert "127.0.0.1:9" in result.stderr
    assert "sesame" not in result.stderr


@pytest.mark.integration
@pytest.mark.usefixtures("s3")
def test_wrong_credentials(dtls: Command, s3: str, tmp_path: Path) -> None:
    line = complaint(dtls("shard", f"{s3}/photos", tmp_path, AWS_SECRET_ACCESS_KEY="sesame"))
    assert "SignatureDoesNotMatch" in line
    assert "sesame" not in line


def test_the_authors_checkpoint_becomes_ours_once(dtls: Command, tmp_path: Path) -> None:
    source = tmp_path / "SR_8_32_s4.pt"
    source.write_bytes((Path(__file__).parents[1] / "dtls" / "data" / "dtls_reference_32.pt").read_bytes())
    result = dtls("import-checkpoint", source, tmp_path / "model")
    assert result.code == 0, result.stderr
    assert "8→32" in result.stdout
    assert "already contains a model" in complaint(dtls("import-checkpoint", source, tmp_path / "model"))
    assert "preset 16-128 has 64" in complaint(
        dtls("import-checkpoint", source, tmp_path / "other", "--preset", "16-128")
    )


def test_a_target_that_cannot_be_written_is_found_out_before_training(
    dtls: Command, photographs: Path, tmp_path: Path
) -> None:
    assert dtls("shard", photographs, tmp_path / "shards").code == 0
    (tmp_path / "file").write_text("in the way")
    assert str(tmp_path / "file") in complaint(dtls("train", tmp_path / "shards", tmp_path / "file", "--steps", 1))


@pytest.mark.parametrize("address", ["s3://", "s3://[b", "~nosuchuser/x", "ftp:/x/y", "nonsense://x"])
def test_addresses_that_make_no_sense(dtls: Command, tmp_path: Path, address: str) -> None:
    assert complaint(dtls("shard", address, tmp_path / "shards"))


@pytest.mark.slow
def test_interrupting_a_run_stops_it_at_the_next_image(photographs: Path, tmp_path: Path) -> None:
    with Image.open(photographs / "00000" / "00000.png") as photograph:
        for index in range(300):
            photograph.rotate(index).save(tmp_path / f"{index:03d}.png")
    target = tmp_path.parent / f"{tmp_path.name}-sr"
    command = [sys.executable, "-m", "flows", "upscale", str(tmp_path), str(target), "--method", "bicubic"]
    options = ["--scale", "16", "--unit-size", "1000", "--workers", "1"]
    # A job in the background ignores SIGINT, and so would the run that it starts.
    listens = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True, preexec_fn=listens) as run:
        assert wait_until(lambda: bool(list(target.glob("*.png"))), timeout=60)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=20)
    assert run.returncode == 130
    assert said.splitlines()[-1] == "dtls: stopped; run it again to resume"
    assert 0 < len(list(target.glob("*.png"))) < 300


@pytest.mark.slow
def test_the_installed_command_ends_with_the_exit_code(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("dtls")), "shard", str(tmp_path / "gone"), str(tmp_path / "shards")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 1
    assert result.stderr.startswith("dtls: ")
    assert not result.stdout


@pytest.mark.slow
def test_a_command_that_needs_no_torch_does_not_load_it() -> None:
    code = """
import sys
from contextlib import suppress
from flows.cli import main
for command in ("shard", "verify"):
    sys.argv = ["dtls", command, "--help"]
    with suppress(SystemExit):
        main()
assert "torch" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Examples") == 2
