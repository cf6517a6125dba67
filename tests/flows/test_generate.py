"""Generating as runs: seeds make files that nothing else changes, more of them come behind, and refusals."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from dtls.checkpoints import bundled
from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.models.dtls import DTLS
from flows.engine.apart import Apart
from flows.generate import GenerateOptions, generate
from flows.generation.loading import GeneratorSpec
from flows.generation.seeds import seed_of
from flows.interface.errors import RunError, UsageError
from flows.status import StatusOptions, status
from flows.verify import VerifyOptions, verify
from storage.archives.source import open_source
from storage.receipts.survey import UNFINISHED
from storage.receipts.units import ATTEMPTS
from storage.shards.read import ShardReader, list_shards, local_shards
from storage.stores.cache import Cache
from storage.stores.location import Location, StorageError
from tests.command_line import Command
from tests.flows.generating import SIZE, generated, save_prior
from tests.flows.generation.fakes import Fake
from tests.killing import Place, Runs

PROCESSING_SOFTWARE = 11
"""The tag of EXIF."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return save_prior(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def upscaler(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model that enlarges twofold."""
    folder = tmp_path_factory.mktemp("upscaler")
    torch.manual_seed(1)
    save_checkpoint(DTLS(dim=8, multipliers=(1, 2), size=16, stride=8, steps=1), folder)
    return str(folder)


@pytest.fixture
def photos(photographs: Path, tmp_path: Path) -> Path:
    """Three images, in two folders."""
    folder = tmp_path / "photos"
    (folder / "b").mkdir(parents=True)
    for path, name in zip(sorted(photographs.rglob("*.png")), ("a.png", "b/c.png", "d.png"), strict=False):
        shutil.copy(path, folder / name)
    return folder


def images(target: Path | str) -> dict[str, bytes]:
    """The images of a target, by name."""
    source = open_source(str(target))
    return {entry.key: source.fetch(entry) for entry in source.list() if entry.key[:1].isdecimal()}


def rows(target: Path) -> pd.DataFrame:
    return pd.read_parquet(target / "manifest.parquet").set_index("key")


def pixels(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_each_image_is_of_its_own_seed_which_it_and_its_row_name(model: str, tmp_path: Path) -> None:
    assert generated(model, tmp_path / "out", count=3, seed=7) == "3 done"
    found = rows(tmp_path / "out")
    assert found.seed.to_dict() == {f"{number:08d}": seed_of(7, f"{number:08d}") for number in range(3)}
    assert set(found.method) == {"ddpm"}
    assert found.width.tolist() == [SIZE] * 3
    for key, row in found.iterrows():
        stamp = Image.open(tmp_path / "out" / f"{key}.png").getexif()[PROCESSING_SOFTWARE]
        assert "synthetic" in stamp
        assert stamp.endswith(f"seed {row.seed}")
        assert row.checkpoint in stamp
    assert len({*images(tmp_path / "out").values()}) == 3
    generated(model, tmp_path / "others", count=3, seed=8, provenance=False)
    assert not Image.open(tmp_path / "others" / "00000000.png").getexif()
    one, other = (pixels(images(tmp_path / name)["00000000.png"]) for name in ("out", "others"))
    assert not np.array_equal(one, other)


def test_more_come_behind_and_change_nothing(model: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    generated(model, target, count=6)
    first, told = images(target), rows(target)
    assert generated(model, target, count=10) == "4 done, 6 already done"
    assert {name: data for name, data in images(target).items() if name in first} == first
    pd.testing.assert_frame_equal(rows(target).loc[told.index], told)
    assert generated(model, target, count=2) == "10 already done"
    assert len(rows(target)) == 10


@pytest.mark.parametrize("options", [{"in_flight": 1, "workers": 1}, {"unit_size": 3}, {"unit_size": 100}], ids=str)
def test_neither_units_nor_threads_change_a_file(model: str, tmp_path: Path, options: dict[str, Any]) -> None:
    generated(model, tmp_path / "one", count=18)
    generated(model, tmp_path / "other", count=18, **options)
    assert images(tmp_path / "one") == images(tmp_path / "other")


def killed(model: str, target: str) -> None:
    generated(model, target, count=12)


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("step", [8, 30])
def test_a_run_that_is_killed_and_run_again_ends_as_if_nothing_had_happened(
    model: str, tmp_path: Path, step: int
) -> None:
    generated(model, tmp_path / "undisturbed", count=12)
    target = Place(str(tmp_path / "killed"), None)
    (tmp_path / "runs").mkdir()
    assert Runs(killed, Place(model, None), tmp_path / "runs").run(target, at_step=step).killed
    generated(model, target.url, count=12)
    assert target.files() == Place(str(tmp_path / "undisturbed"), None).files()


def test_seeds_whose_runs_died_are_computed_together_as_ever(
    model: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ApartError(Exception):
        pass

    def alone(*_: object) -> None:
        raise ApartError("done apart")

    monkeypatch.setattr(Apart, "__call__", alone)
    for name, options in {"of-seeds": {}, "of-photos": {"start": str(photos), "strength": 0.5}}.items():
        target = tmp_path / name
        generated(model, target, count=3, **options)
        (receipt,) = (target / ".dtls/receipts/generate").iterdir()
        (target / UNFINISHED).write_text("{}")
        (target / f"{ATTEMPTS}{receipt.stem.rpartition('-')[2]}").touch()
        receipt.unlink()
        if name == "of-seeds":
            assert generated(model, target, count=3) == "3 done"
        else:
            with pytest.raises(RunError, match="1 of 1 units came to nothing"):
                generated(model, target, count=3, **options)


def test_a_target_is_verified_and_made_whole_again(model: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    generated(model, target, count=6)
    before = images(target)
    assert "100% of 6 images" in status(StatusOptions(target=str(target)))
    assert "6 files in 2 receipts are whole" in verify(VerifyOptions(target=str(target)))
    (target / "00000002.png").write_bytes(before["00000003.png"])
    with pytest.raises(RunError, match="--repair"):
        verify(VerifyOptions(target=str(target)))
    verify(VerifyOptions(target=str(target), repair=True))
    assert generated(model, target, count=6) == "4 done, 2 already done"
    assert images(target) == before


def test_other_options_replace_only_when_they_may_and_all_of_a_set(model: str, tmp_path: Path) -> None:
    target = tmp_path / "out"
    generated(model, target, count=5)
    before = images(target)
    with pytest.raises(StorageError, match=r"5 results made with other options \(seed 0 → 1\)"):
        generated(model, target, count=5, seed=1)
    with pytest.raises(StorageError, match="holds more than 3 images"):
        generated(model, target, count=3, seed=1, overwrite=True)
    assert images(target) == before
    assert generated(model, target, count=5, seed=1, overwrite=True) == "5 done"
    after = images(target)
    assert all(after[name] != before[name] for name in before)


def test_shards_say_that_they_are_synthetic_and_can_be_trained_on(model: str, tmp_path: Path) -> None:
    target = tmp_path / "shards"
    assert generated(model, target, count=5, samples_per_shard=3) == "5 done"
    first = (target / "shard-000000.tar").read_bytes()
    assert generated(model, target, count=8, samples_per_shard=3) == "5 done, 3 already done"
    assert (target / "shard-000000.tar").read_bytes() == first
    generated(model, tmp_path / "files", count=8)
    wanted, place = images(tmp_path / "files"), Location.of(target)
    facts = open_source(str(target)).facts("shard-000002")  # type: ignore[attr-defined]
    assert facts["00000007"] == {
        "key": "00000007",
        "seed": seed_of(0, "00000007"),
        "synthetic": True,
        "width": SIZE,
        "height": SIZE,
    }
    with local_shards(place, list_shards(place), Cache(tmp_path / "cache"), lambda _: None) as there:
        reader = ShardReader(there)
        assert [reader.read(number) for number in range(len(reader))] == [wanted[name] for name in sorted(wanted)]


def test_an_archive_is_packed_of_what_a_folder_would_have(model: str, tmp_path: Path) -> None:
    generated(model, tmp_path / "out", count=3)
    assert generated(model, tmp_path / "out.zip", count=3) == "3 done"
    assert generated(model, tmp_path / "out.zip", count=5) == "2 done, 3 already done"
    assert generated(model, tmp_path / "out", count=5) == "2 done, 3 already done"
    assert images(tmp_path / "out.zip") == images(tmp_path / "out")


def test_images_are_enlarged_by_a_model_which_their_rows_name(model: str, upscaler: str, tmp_path: Path) -> None:
    generated(model, tmp_path / "out", count=10, upscale=upscaler)
    found = rows(tmp_path / "out")
    assert set(found.width) == {2 * SIZE}
    assert set(found.upscaler) == {"dtls"}
    assert found.upscaler_checkpoint.str.len().eq(64).all()
    generated(model, tmp_path / "alone", count=1, upscale=upscaler, size=2 * SIZE)
    assert images(tmp_path / "alone").items() <= images(tmp_path / "out").items()
    generated(model, tmp_path / "bicubic", count=1, upscale="bicubic", size=20)
    assert pixels(images(tmp_path / "bicubic")["00000000.png"]).shape == (20, 20, 3)


def test_a_grey_model_makes_grey_images_in_colour_formats_too(tmp_path: Path) -> None:
    grey = save_prior(tmp_path / "grey", channels=1)
    generated(grey, tmp_path / "out", count=1)
    assert Image.open(tmp_path / "out" / "00000000.png").mode == "L"
    generated(grey, tmp_path / "jpeg", count=1, format="jpeg", upscale="bicubic")
    assert Image.open(tmp_path / "jpeg" / "00000000.jpg").size == (4 * SIZE, 4 * SIZE)


def test_samples_start_from_images_in_turn_and_a_changed_one_redoes_its_own(
    model: str, photos: Path, tmp_path: Path
) -> None:
    target, options = tmp_path / "out", {"start": str(photos), "strength": 0.5}
    assert generated(model, target, **options) == "3 done"
    assert generated(model, target, count=5, **options) == "2 done, 3 already done"
    assert rows(target).start.tolist() == ["a.png", "b/c.png", "d.png", "a.png", "b/c.png"]
    before = images(target)
    shutil.copy(photos / "d.png", photos / "a.png")
    assert generated(model, target, count=5, **options) == "2 done, 3 already done"
    after = images(target)
    assert {name for name in before if before[name] != after[name]} == {"00000000.png", "00000003.png"}


def test_an_image_that_cannot_be_read_fails_its_samples_alone(
    model: str, photos: Path, bad_images: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copy(bad_images["text.png"], photos / "b" / "c.png")
    with pytest.raises(RunError, match="1 of 3 images failed"):
        generated(model, tmp_path / "out", start=str(photos), strength=1)
    found = rows(tmp_path / "out")
    assert found.status.tolist() == ["ok", "failed", "ok"]
    assert sorted(images(tmp_path / "out")) == ["00000000.png", "00000002.png"]


def test_a_mix_leads_from_one_sample_to_another(model: str, tmp_path: Path) -> None:
    generated(model, tmp_path / "samples", count=4)
    samples = {name: pixels(data) for name, data in images(tmp_path / "samples").items()}
    for where in ("z", "pixels"):
        target = tmp_path / where
        assert generated(model, target, mix="1,3", mix_steps=3, mix_in=where) == "3 done"
        made = [pixels(data) for _, data in sorted(images(target).items())]
        assert np.array_equal(made[0], samples["00000001.png"])
        assert Image.open(target / "sheet.png").size == (3 * SIZE + 2 * 2, SIZE)
        if where == "pixels":
            assert np.array_equal(made[2], samples["00000003.png"])
            mean = (made[0].astype(float) + made[2]) / 2
            assert np.abs(made[1] - mean).max() <= 1
    assert rows(tmp_path / "z").start.tolist()[1] == "00000001 and 50% of 00000003"
    with pytest.raises(StorageError, match="a target is for one source"):
        generated(model, tmp_path / "z", mix="1,3", mix_steps=4)
    (tmp_path / "z" / ".dtls" / "source.json").unlink()
    with pytest.raises(StorageError, match="3 results made with other options"):
        generated(model, tmp_path / "z", mix="1,3", mix_steps=4)


def test_the_images_of_a_mix_have_no_seed_of_their_own(model: str, tmp_path: Path) -> None:
    generated(model, tmp_path, mix="1,3")
    assert rows(tmp_path).seed.isna().all()
    assert "seed" not in Image.open(tmp_path / "00000001.png").getexif()[PROCESSING_SOFTWARE]


def test_both_ends_of_a_mix_of_pixels_are_the_samples_whatever_noise_their_sampler_adds(
    model: str, tmp_path: Path
) -> None:
    generated(model, tmp_path / "samples", count=4, sampler="ddpm")
    generated(model, tmp_path / "mix", mix="1,3", mix_steps=2, mix_in="pixels", sampler="ddpm")
    made, samples = (images(tmp_path / name) for name in ("mix", "samples"))
    ends = [pixels(data) for _, data in sorted(made.items())]
    for end, name in zip(ends, ("00000001.png", "00000003.png"), strict=True):
        assert np.array_equal(end, pixels(samples[name]))


def test_the_sheet_of_a_mix_has_what_did_not_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled = Fake(spoiled=seed_of(0, "00000003"))
    monkeypatch.setattr(GeneratorSpec, "__call__", lambda _: spoiled)
    with pytest.raises(RunError, match="3 of 3"):
        generated("fake", tmp_path, mix="3,1", mix_steps=3)
    assert not (tmp_path / "sheet.png").exists()


def test_z_of_each_image_is_in_the_table_of_a_run_that_inverts(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(GeneratorSpec, "__call__", lambda _: Fake())
    target = tmp_path / "out"
    assert generated("fake", target, invert=str(photos)) == "3 done"
    found = rows(target)
    assert found.output.to_dict() == {"a.png": "a.png", "b/c.png": "b/c.png", "d.png": "d.png"}
    for row in found.to_dict("records"):
        z = np.frombuffer(row["z"], "<f4").reshape([*map(int, row["z_shape"].split(","))])
        made = np.asarray(Image.open(target / row["output"]))
        np.testing.assert_allclose(z.transpose(1, 2, 0) * 255, made, atol=1e-3)
    shutil.copy(photos / "a.png", photos / "e.png")
    assert generated("fake", target, invert=str(photos)) == "1 done, 3 already done"


def test_a_mix_of_a_file_is_another_when_the_file_changes(model: str, photos: Path, tmp_path: Path) -> None:
    target, mix = tmp_path / "out", {"mix": f"1,{photos}/a.png", "mix_in": "pixels"}
    assert generated(model, target, **mix) == "5 done"
    before = images(target)
    assert generated(model, target, **mix) == "5 already done"
    shutil.copy(photos / "d.png", photos / "a.png")
    with pytest.raises(StorageError, match="5 results made with other options"):
        generated(model, target, **mix)
    assert generated(model, target, overwrite=True, **mix) == "5 done"
    assert images(target)["00000000.png"] == before["00000000.png"]
    assert images(target)["00000004.png"] != before["00000004.png"]


@pytest.mark.integration
def test_a_bucket_gets_the_files_of_a_folder(model: str, s3: str, tmp_path: Path) -> None:
    place = Location.of(f"{s3}/model")
    for name in ("config.json", "model.safetensors"):
        place.write(name, Path(model, name).read_bytes())
    generated(model, tmp_path / "out", count=5)
    assert generated(f"{s3}/model", f"{s3}/out", count=3) == "3 done"
    assert generated(f"{s3}/model", f"{s3}/out", count=5) == "2 done, 3 already done"
    assert images(f"{s3}/out") == images(tmp_path / "out")


@pytest.mark.slow
@pytest.mark.usefixtures("flow_runs")
def test_a_flow_run_of_prefect_makes_the_files_of_a_command(model: str, tmp_path: Path) -> None:
    generated(model, tmp_path / "one", count=5)
    given = {"model": model, "target": str(tmp_path / "other"), "count": 5, "device": "cpu", "unit_size": 4}
    assert generate(GenerateOptions.model_validate(given)) == "5 done"
    assert images(tmp_path / "one") == images(tmp_path / "other")


REFUSED: dict[str, dict[str, Any]] = {
    "at least 1": {"count": 0},
    "has no rate above 0": {"start": "exponential:-1"},
    "--strength goes with --start FOLDER": {"strength": 0.5},
    "and that needs it": {"start": "photos"},
    "draws no z; leave --truncate out": {"start": "photos", "strength": 1, "truncate": 0.5},
    "leave --count out": {"invert": "photos", "count": 3},
    "leave --samples-per-shard out": {"mix": "1,2", "samples_per_shard": 3},
    "a mix is of two": {"mix": "1,2,3"},
    "at most 8 digits": {"mix": "1,123456789"},
    "there is no --mix; leave --mix-steps out": {"mix_steps": 3},
    "--size goes with --upscale": {"size": 16},
    "not into an archive": {"target": "out.zip", "samples_per_shard": 3},
    "makes a sheet": {"target": "out.zip", "mix": "1,2"},
}


@pytest.mark.parametrize("options", REFUSED.values(), ids=REFUSED)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], request: pytest.FixtureRequest) -> None:
    words = request.node.callspec.id
    with pytest.raises(ValidationError) as error:
        GenerateOptions.model_validate({"model": "model", "target": "out", **options})
    assert words in str(error.value) or "greater than or equal to 1" in str(error.value)


def test_what_does_not_fit_the_model_is_refused_before_any_work(
    model: str, upscaler: str, photos: Path, tmp_path: Path
) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("no such folder", {"model": "nowhere"}),
        ("makes no images of noise", {"model": upscaler}),
        ("steps", {"sampling_steps": 7}),
        ("by more than", {"upscale": upscaler, "size": 40}),
        ("more than the 8 pixels", {"upscale": "bicubic", "size": 8}),
        ("dtls generate", {"upscale": model}),
        ("has no way back", {"invert": str(photos)}),
        ("has no way back", {"mix": f"1,{photos}/a.png"}),
        ("no file there", {"mix": "1,nowhere.png", "mix_in": "pixels"}),
        ("inside the source", {"start": str(tmp_path), "strength": 1}),
    ]
    for words, options in cases:
        with pytest.raises(UsageError, match=words):
            generated(options.pop("model", model), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_bundled_prior_is_called_by_its_name(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundled, "FOLDER", Path(model).parent)
    name = Path(model).name
    monkeypatch.setitem(bundled.BUNDLED, name, bundled.Bundled(name, 1, "noise", bundled.GENERATING))
    monkeypatch.chdir(tmp_path)
    assert generated(name, tmp_path / "out", count=2) == "2 done"


def test_wrong_use_is_one_line_and_code_2(dtls: Command, upscaler: str, tmp_path: Path) -> None:
    ended = dtls("generate", upscaler, tmp_path / "out", "--count", 3)
    assert ended.code == 2
    assert len(ended.stderr.splitlines()) == 1
    assert json.dumps(upscaler)[1:-1] in ended.stderr
