"""Results are matched to their images whatever they are called: by manifests, templates, and names in any form."""

import io
import json
import tarfile
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from flows.downscale import DownscaleOptions, downscale
from flows.evaluation.collection import Collection
from flows.evaluation.matching import Keys, Naming, Template
from flows.upscale import UpscaleOptions, upscale
from storage.stores.location import StorageError
from tests.flows.reporting import made

ANY = Naming("--sr-name")


def folder(at: Path, *names: str) -> str:
    """A folder with files of these names; comparing lists them only."""
    for name in names:
        (at / name).parent.mkdir(parents=True, exist_ok=True)
        (at / name).write_bytes(name.encode())
    return str(at)


def manifest(at: Path, outputs: Mapping[str, str]) -> None:
    """Say which source each output is of."""
    pq.write_table(pa.table({"key": list(outputs.values()), "output": list(outputs)}), at / "manifest.parquet")


def keys(hr: str) -> Keys:
    return Keys.of(hr)


def matched(found: Collection) -> dict[str, str]:
    return {key: entry.key for key, entry in found.entries.items()}


def named(text: str, method: str = "a", *, comes_first: bool = False) -> Naming:
    return Naming("--sr-name", Template(text), method, comes_first)


def noise(path: Path, size: tuple[int, int] = (16, 16)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.name)).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def hr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two images that only their endings tell apart, and one in a folder."""
    hr = tmp_path_factory.mktemp("matching") / "hr"
    for name in ("a.png", "a.bmp", "b/c.v2.png"):
        noise(hr / name)
    return hr


def upscaled(source: Path, target: Path, **options: object) -> str:
    upscale.fn(UpscaleOptions(source=str(source), target=str(target), method="nearest", scale=2, **options))
    return str(target)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("target", "options"),
    [
        ("sr", {"suffix": "_x2"}),
        ("sr", {"format": "webp"}),
        ("sr.zip", {"suffix": ".large", "format": "jpeg"}),
        ("sr.tar.gz", {}),
        ("sr", {"samples_per_shard": 2}),
    ],
)
def test_results_of_ours_are_matched_by_their_manifest(
    hr: Path, tmp_path: Path, target: str, options: dict[str, object]
) -> None:
    downscale.fn(DownscaleOptions(source=str(hr), target=str(tmp_path / "lr"), scale=2))
    sr = upscaled(tmp_path / "lr", tmp_path / target, **options)
    addresses = {"hr": str(hr), "lr": str(tmp_path / "lr"), "sr": {"ours": sr}}
    summary = made(tmp_path, tmp_path / "out", **addresses, protocol=None, max_failed=0.0)
    assert [(row["ok"], row["failed"], row["scales"]) for row in summary["methods"]] == [(3, 0, [2.0])]


def test_images_that_only_endings_tell_apart_are_told_apart(hr: Path, tmp_path: Path) -> None:
    sr = upscaled(hr, tmp_path / "sr", suffix="_x2")
    found = keys(str(hr)).matched(sr, ANY)
    assert matched(found) == {"a.png": "a_x2.png", "a.bmp": "a_x2.bmp.png", "b/c.v2": "b/c.v2_x2.png"}


def test_results_are_matched_through_lr_images_of_other_names(tmp_path: Path) -> None:
    hr = folder(tmp_path / "hr", "1.png", "2.png")
    lr = folder(tmp_path / "lr", "1x4.png", "2x4.png")
    sr = folder(tmp_path / "sr", "1x4_sr.png", "2x4_sr.png")
    manifest(tmp_path / "sr", {"1x4_sr.png": "1x4.png", "2x4_sr.png": "2x4.png"})
    found = keys(hr).matched(lr, named("{key}x4"))
    assert matched(found) == {"1": "1x4.png", "2": "2x4.png"}
    assert matched(keys(hr).joined_by(found).matched(sr, ANY)) == {"1": "1x4_sr.png", "2": "2x4_sr.png"}


def test_a_manifest_only_chooses_among_what_is_listed(tmp_path: Path) -> None:
    hr, sr = folder(tmp_path / "hr", "a.png"), folder(tmp_path / "sr", "x.png", "y.png")
    manifest(tmp_path / "sr", {"../../etc/passwd": "a.png", "x.png": "a.png", "y.png": "../../etc/passwd"})
    assert matched(keys(hr).matched(sr, ANY)) == {"a": "x.png", "y": "y.png"}


@pytest.mark.parametrize(
    "columns", [{"key": ["a.png"]}, {"key": [7], "output": ["x.png"]}, {"key": [["a.png"]], "output": [{"x": 1}]}]
)
def test_a_manifest_of_another_kind_says_nothing(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    hr, sr = folder(tmp_path / "hr", "a.png"), folder(tmp_path / "sr", "a.png", "x.png")
    pq.write_table(pa.table(columns), tmp_path / "sr" / "manifest.parquet")
    assert matched(keys(hr).matched(sr, ANY)) == {"a": "a.png", "x": "x.png"}


def test_a_file_that_the_manifest_does_not_name_yields(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hr, sr = folder(tmp_path / "hr", "a.png"), folder(tmp_path / "sr", "a.png", "a_x2.png")
    manifest(tmp_path / "sr", {"a_x2.png": "a.png"})
    assert matched(keys(hr).matched(sr, ANY)) == {"a": "a_x2.png"}
    assert "left out: 1 image, such as a.png: another file has the same key" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("template", "files"),
    [
        ("{key}_x2", {"a": "a_x2.jpg", "f/b": "f/b_x2.png"}),
        ("{key}_x2.png", {"a": "a_x2.png", "f/b": "f/b_x2.png"}),
        ("sr-{key}", {"a": "sr-a.png", "f/b": "f/sr-b.png"}),
        ("{key}.{method}(1)", {"a": "a.bsrgan(1).png", "f/b": "f/b.bsrgan(1).png"}),
        ("out/{key}/sr", {"a": "out/a/sr.png", "f/b": "out/f/b/sr.png"}),
    ],
)
def test_a_template_says_how_files_are_named(tmp_path: Path, template: str, files: dict[str, str]) -> None:
    hr = folder(tmp_path / "hr", "a.png", "f/b.png")
    sr = folder(tmp_path / "sr", *files.values())
    assert matched(keys(hr).matched(sr, named(template, "bsrgan"))) == files


def test_what_a_template_does_not_fit_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hr, sr = folder(tmp_path / "hr", "a.png"), folder(tmp_path / "sr", "a_x2.png", "a.png", "other.png")
    assert matched(keys(hr).matched(sr, named("{key}_x2"))) == {"a": "a_x2.png"}
    assert "left out: 2 images, such as a.png: not named like {key}_x2" in capsys.readouterr().err


def test_a_template_for_all_leaves_manifests_their_say_and_one_for_a_result_does_not(tmp_path: Path) -> None:
    hr, sr = folder(tmp_path / "hr", "a.png"), folder(tmp_path / "sr", "a_x2.png", "x.png")
    manifest(tmp_path / "sr", {"x.png": "a.png"})
    assert matched(keys(hr).matched(sr, named("{key}_x2")))["a"] == "x.png"
    assert matched(keys(hr).matched(sr, named("{key}_x2", comes_first=True)))["a"] == "a_x2.png"


@pytest.mark.parametrize("text", ["x2", "{key}{key}", "{key}_{scale}", "{key", "{}"])
def test_what_is_no_template_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no template for names"):
        Template(text)


def test_results_none_of_which_fits_are_refused_with_a_template_that_would(tmp_path: Path) -> None:
    hr, sr = folder(tmp_path / "hr", "a.png", "ab.png"), folder(tmp_path / "sr", "ab_esrgan.png")
    with pytest.raises(StorageError, match=r"ab_esrgan.png there, a.png here; --sr-name '{key}_esrgan' says how"):
        keys(hr).matched(sr, ANY)


def test_two_files_that_fit_one_image_are_refused(tmp_path: Path) -> None:
    hr, sr = folder(tmp_path / "hr", "a.tif"), folder(tmp_path / "sr", "a.jpg", "a.png")
    with pytest.raises(StorageError, match=r"sr: a\.jpg and a\.png have the same key 'a'; rename one"):
        keys(hr).matched(sr, ANY)


COMPOSED = "Caf\N{LATIN SMALL LETTER E WITH ACUTE}/Zo\N{LATIN SMALL LETTER E WITH DIAERESIS}.png"


def decomposed(name: str) -> str:
    return unicodedata.normalize("NFD", name)


def tar(at: Path, names: Iterable[str]) -> str:
    """An archive, in which names stay as they are written."""
    with tarfile.open(at, "w") as archive:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 1
            archive.addfile(info, io.BytesIO(b"x"))
    return str(at)


@pytest.mark.parametrize("change", [decomposed, str])
def test_names_in_another_unicode_form_are_the_same(tmp_path: Path, change: type[str]) -> None:
    hr = tar(tmp_path / "hr.tar", [change(COMPOSED), "plain.png"])
    sr = tar(tmp_path / "sr.tar", [decomposed(change(COMPOSED)), "plain.png"])
    found = keys(hr).matched(sr, ANY)
    assert found.entries.keys() == {change(COMPOSED).removesuffix(".png"), "plain"}


def test_of_two_names_that_look_the_same_each_fits_its_own_and_the_reason_names_the_form(tmp_path: Path) -> None:
    hr = tar(tmp_path / "hr.tar", [COMPOSED, decomposed(COMPOSED)])
    sr = keys(hr).matched(tar(tmp_path / "sr.tar", [COMPOSED]), ANY)
    key = COMPOSED.removesuffix(".png")
    assert matched(sr) == {key: COMPOSED}
    with pytest.raises(StorageError, match=r"sr.tar in this Unicode form \(NFD\), where .* \(NFC\) looks the same"):
        sr.see(sr.listed(decomposed(key)))


@pytest.mark.slow
def test_the_table_has_results_of_names_from_a_mac(tmp_path: Path) -> None:
    for name in (COMPOSED, "plain.png"):
        noise(tmp_path / "hr" / name)
        noise(tmp_path / "sr" / decomposed(name))
    summary = made(tmp_path, tmp_path / "out", lr=None, sr={"mac": str(tmp_path / "sr")}, max_failed=0.0)
    assert json.dumps(summary["methods"][0]["ok"]) == "2"


@pytest.mark.slow
def test_one_image_is_compared_with_one_whatever_they_are_called(tmp_path: Path) -> None:
    noise(tmp_path / "photo.png")
    noise(tmp_path / "enlarged.png")
    one = {"hr": str(tmp_path / "photo.png"), "lr": None, "sr": {"a": str(tmp_path / "enlarged.png")}}
    assert made(tmp_path, tmp_path / "out", **one, max_failed=0.0)["methods"][0]["ok"] == 1


def test_what_an_archive_refuses_is_a_row_with_the_reason(tmp_path: Path) -> None:
    hr = folder(tmp_path / "hr", "a.png", "b.png")
    archive = tmp_path / "sr.tar"
    tar(archive, ["a.png"])
    with tarfile.open(archive, "a") as appended:
        link = tarfile.TarInfo("b.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        appended.addfile(link)
    sr = keys(hr).matched(str(archive), ANY)
    with pytest.raises(StorageError, match=r"sr.tar/b.png: .*link"):
        sr.see(sr.listed("b"))
