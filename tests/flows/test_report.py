"""Reports as runs: the table, the summary and the page, with files matched by key and nothing left out silently."""

import json
from pathlib import Path

import duckdb
import pandas as pd
import pytest
import torch
from PIL import Image

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.errors import ProtocolError, WeightsError
from dtls.models.dtls import DTLS
from flows.compare_reports import CompareReportsOptions, compare_reports
from flows.downscale import DownscaleOptions, downscale
from flows.evaluation import gallery, publish
from flows.interface.errors import RunError
from flows.report import ReportOptions, report
from flows.upscale import UpscaleOptions, upscale
from reports.metrics import fid_kid
from reports.metrics.registry import METRICS, SET_METRICS
from storage.stores.location import StorageError

METRICS_OF_SETS = {metric.name: metric for metric in SET_METRICS}
COLUMNS = (
    *("method", "key", "protocol", "scale", "width", "height"),
    *("psnr", "ssim", "ssim_gaussian", "lpips", "consistency", "lr_psnr", "authors_consistency", "bytes"),
    *("colour", "border", "data_range", "lpips_network", "status", "error", "notes"),
)


@pytest.fixture(scope="module")
def compared(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with hr, lr (×4, antialias), and two results."""
    folder = tmp_path_factory.mktemp("compared")
    (folder / "hr").symlink_to(photographs)
    hr, lr = str(folder / "hr"), str(folder / "lr")
    downscale.fn(DownscaleOptions(source=hr, target=lr, scale=4, protocol="antialias"))
    for method in ("nearest", "bicubic"):
        upscale.fn(UpscaleOptions(source=lr, target=str(folder / method), method=method, scale=4))
    return folder


def options(compared: Path, out: Path, **changes: object) -> ReportOptions:
    settings = {
        "hr": str(compared / "hr"),
        "lr": str(compared / "lr"),
        "sr": {name: str(compared / name) for name in ("nearest", "bicubic")},
        "out": str(out),
        "device": "cpu",
        **changes,
    }
    return ReportOptions(**settings)


@pytest.mark.slow
def test_a_report_is_a_table_a_summary_and_a_page(compared: Path, tmp_path: Path) -> None:
    page = report.fn(options(compared, tmp_path))
    assert page == str(tmp_path / "index.html")
    table = pd.read_parquet(tmp_path / "metrics.parquet")
    assert tuple(table.columns) == COLUMNS
    assert len(table) == 24
    assert set(table.protocol) == {"antialias"}
    assert table.scale.eq(4).all()
    means = table.groupby("method")[["psnr", "lpips"]].mean()
    assert means.psnr.bicubic > means.psnr.nearest
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [method["method"] for method in summary["methods"]] == ["nearest", "bicubic"]
    assert Image.open(tmp_path / "contact-sheet.png").height > 8 * 64
    html = (tmp_path / "index.html").read_text()
    assert all(key in html for key in table.key)


def test_the_protocol_comes_from_the_lr_images_and_another_is_refused(compared: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="made with the protocol antialias, not reference"):
        report.fn(options(compared, tmp_path, protocol="reference"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_missing_broken_and_wrongly_sized_images_are_rows_with_a_reason(compared: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    for path in sorted((compared / "bicubic").rglob("*.png")):
        (copy := bad / path.relative_to(compared / "bicubic")).parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    (bad / "00000" / "00001.png").unlink()
    (bad / "00000" / "00002.png").write_bytes(b"no image")
    Image.new("RGB", (60, 64)).save(bad / "00000" / "00003.png")
    Image.new("RGB", (64, 64)).save(bad / "00000" / "extra.png")
    both = {"good": str(compared / "bicubic"), "bad": str(bad)}
    with pytest.raises(RunError, match="4 of 25 images failed"):
        report.fn(options(compared, tmp_path / "out", sr=both, max_failed=0.1))
    whole = pd.read_parquet(tmp_path / "out" / "metrics.parquet")
    assert whole[whole.method == "good"].status.eq("ok").all()  # what only another method has is not its fault
    table = whole[whole.method == "bad"].set_index("key")
    assert f"not in {bad}" in table.loc["00000/00001"].error
    assert "00002.png: not an image" in table.loc["00000/00002"].error
    assert table.loc["00000/00003"].error == "SR is 60×64, HR is 64×64"
    assert f"not in {compared / 'hr'}" in table.loc["00000/extra"].error
    assert table.status.value_counts().to_dict() == {"ok": 9, "failed": 4}
    assert (tmp_path / "out" / "index.html").exists()


@pytest.mark.slow
def test_hostile_names_are_escaped_on_the_page_and_refused_for_methods(compared: Path, tmp_path: Path) -> None:
    folders = {name: tmp_path / name for name in ("hr", "lr", "sr")}
    for folder, side in zip(folders.values(), (64, 16, 64), strict=True):
        folder.mkdir()
        Image.new("RGB", (side, side), "teal").save(folder / "<script>alert(1)<.png")
    addresses = {"hr": str(folders["hr"]), "lr": str(folders["lr"]), "sr": {"sr": str(folders["sr"])}}
    report.fn(options(compared, tmp_path / "out", **addresses))
    assert "<script>alert" not in (tmp_path / "out" / "index.html").read_text()
    for name in ("<b>", "HR", ""):
        with pytest.raises(ValueError, match="no name for a method"):
            options(compared, tmp_path / "out", sr={name: str(folders["sr"])})


@pytest.mark.slow
def test_a_second_report_measures_nothing_again(
    compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report.fn(options(compared, tmp_path))
    first = (tmp_path / "metrics.parquet").stat().st_mtime_ns
    report.fn(options(compared, tmp_path))
    assert "24 already done" in capsys.readouterr().err
    assert (tmp_path / "metrics.parquet").stat().st_mtime_ns == first


@pytest.mark.slow
def test_results_of_a_model_for_another_protocol_are_refused_unless_asked_for(compared: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = DTLS(dim=8, multipliers=(1, 2), residual=True, size=64, stride=8, steps=6, protocol="reference")
    save_checkpoint(model, tmp_path / "model")
    upscaled = {"source": str(compared / "lr"), "target": str(tmp_path / "sr"), "checkpoint": str(tmp_path / "model")}
    upscale.fn(UpscaleOptions(**upscaled, scale=4, any_protocol=True, device="cpu"))
    results = {"dtls": str(tmp_path / "sr")}
    with pytest.raises(ProtocolError, match="of a model for reference, and the LR images are made by antialias"):
        report.fn(options(compared, tmp_path / "report", sr=results))
    assert not (tmp_path / "report").exists()
    report.fn(options(compared, tmp_path / "report", sr=results, any_protocol=True))
    assert (tmp_path / "report" / "index.html").exists()


@pytest.mark.slow
def test_without_ground_truth_there_is_consistency_and_a_sentence_that_says_so(
    compared: Path, tmp_path: Path
) -> None:
    report.fn(options(compared, tmp_path, hr=None))
    table = pd.read_parquet(tmp_path / "metrics.parquet")
    assert table.status.eq("ok").all()
    assert table.consistency.notna().all()
    assert table.lr_psnr.notna().all()
    assert table[["psnr", "ssim", "lpips", "authors_consistency", "colour"]].isna().all(axis=None)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["metrics"]) == ["consistency", "lr_psnr"]
    assert "No ground truth" in summary["notes"][0]
    assert "No ground truth" in (tmp_path / "index.html").read_text()


@pytest.fixture(scope="module")
def realworld(compared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the same hr, lr made by realworld (×4), and one result."""
    folder = tmp_path_factory.mktemp("realworld")
    (folder / "hr").symlink_to(compared / "hr")
    hr, lr = str(folder / "hr"), str(folder / "lr")
    downscale.fn(DownscaleOptions(source=hr, target=lr, scale=4, protocol="realworld"))
    upscale.fn(UpscaleOptions(source=lr, target=str(folder / "bicubic"), method="bicubic", scale=4))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("told", [None, "realworld"])
def test_of_lr_images_made_by_realworld_there_is_no_consistency_and_a_sentence_says_why(
    realworld: Path, tmp_path: Path, told: str | None
) -> None:
    report.fn(options(realworld, tmp_path, sr={"bicubic": str(realworld / "bicubic")}, protocol=told))
    table = pd.read_parquet(tmp_path / "metrics.parquet")
    assert table.status.eq("ok").all()
    assert set(table.protocol) == {"realworld"}
    assert table.scale.eq(4).all()
    assert table[["psnr", "ssim", "ssim_gaussian", "lpips"]].notna().all(axis=None)
    assert table[["consistency", "lr_psnr", "authors_consistency"]].isna().all(axis=None)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary["metrics"]) == {"psnr", "ssim", "ssim_gaussian", "lpips"}
    assert summary["conditions"].startswith("Protocol: realworld · ×4")
    (note,) = summary["notes"]
    assert "realworld, which is random and not linear" in note
    assert note in (tmp_path / "index.html").read_text()
    assert note in (tmp_path / "summary.md").read_text()


def test_lr_images_made_by_realworld_say_nothing_without_ground_truth(realworld: Path, tmp_path: Path) -> None:
    sr = {"bicubic": str(realworld / "bicubic")}
    with pytest.raises(StorageError, match="made by realworld, which has no consistency: nothing to measure without"):
        report.fn(options(realworld, tmp_path, sr=sr, hr=None))
    with pytest.raises(StorageError, match="made with the protocol realworld, not antialias"):
        report.fn(options(realworld, tmp_path, sr=sr, protocol="antialias"))
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_without_lr_images_there_is_all_but_consistency(compared: Path, tmp_path: Path) -> None:
    report.fn(options(compared, tmp_path, lr=None, lpips="none"))
    table = pd.read_parquet(tmp_path / "metrics.parquet")
    assert table[["psnr", "ssim", "ssim_gaussian"]].notna().all(axis=None)
    assert table[["consistency", "lpips", "scale"]].isna().all(axis=None)


@pytest.mark.slow
def test_what_the_numbers_stand_on_is_recorded_with_each(compared: Path, tmp_path: Path) -> None:
    report.fn(options(compared, tmp_path / "rgb"))
    report.fn(options(compared, tmp_path / "y", colour="y", border=4))
    rgb, y = (pd.read_parquet(tmp_path / name / "metrics.parquet") for name in ("rgb", "y"))
    assert set(zip(rgb.colour, rgb.border, rgb.lpips_network, strict=True)) == {("rgb", 0, "alex")}
    assert set(zip(y.colour, y.border, y.lpips_network, strict=True)) == {("y", 4, "alex")}
    assert (rgb.psnr - y.psnr).abs().min() > 0.1
    assert (rgb.lpips == y.lpips).all()
    said = json.loads((tmp_path / "y" / "summary.json").read_text())["conditions"]
    assert said == "Protocol: antialias · ×4 · Y, border 4 · LPIPS alex"


@pytest.mark.slow
def test_another_method_is_measured_alone(compared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report.fn(options(compared, tmp_path, sr={"bicubic": str(compared / "bicubic")}))
    before = pd.read_parquet(tmp_path / "metrics.parquet").set_index("key")
    report.fn(options(compared, tmp_path))
    assert "12 done, 12 already done" in capsys.readouterr().err
    after = pd.read_parquet(tmp_path / "metrics.parquet")
    pd.testing.assert_frame_equal(after[after.method == "bicubic"].set_index("key"), before)


@pytest.mark.slow
def test_numbers_are_the_same_one_by_one_and_together(compared: Path, tmp_path: Path) -> None:
    report.fn(options(compared, tmp_path / "together"))
    report.fn(options(compared, tmp_path / "one", batch_size=1, workers=1))
    together, one = (pd.read_parquet(tmp_path / name / "metrics.parquet") for name in ("together", "one"))
    pd.testing.assert_frame_equal(together, one, rtol=1e-5)


@pytest.mark.slow
def test_runs_are_kept_side_by_side_and_read_as_one_table(compared: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    report.fn(options(compared, out, run="first", sr={"bicubic": str(compared / "nearest")}))
    report.fn(options(compared, out, run="second", sr={"bicubic": str(compared / "bicubic")}))
    table = pd.read_parquet(out / "runs")
    means = table.groupby("run", observed=True).psnr.mean()
    assert means["second"] > means["first"] + 0.5
    runs = duckdb.read_parquet(f"{out}/runs/*/*.parquet", hive_partitioning=True).df()
    assert runs.groupby("run").psnr.mean().tolist() == pytest.approx(means.tolist())
    page = compare_reports(CompareReportsOptions(reports=[str(out)], out=str(tmp_path / "history")))
    lines = Path(page).read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| first", "| second"]
    history = pd.read_parquet(tmp_path / "history" / "history.parquet")
    assert history.psnr.tolist() == pytest.approx([means["first"], means["second"]])


def test_a_comparison_of_what_is_no_report_is_refused(compared: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no report there; give the folder that `dtls report --out` was given"):
        compare_reports(CompareReportsOptions(reports=[str(compared)], out=str(tmp_path)))
    broken = tmp_path / "broken" / "runs" / "run=x"
    broken.mkdir(parents=True)
    (broken / "_summary.json").write_text("[]")
    with pytest.raises(StorageError, match="not the summary of a report"):
        compare_reports(CompareReportsOptions(reports=[str(tmp_path / "broken")], out=str(tmp_path / "out")))


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"sr": {}}, "--sr is required, e.g. --sr bicubic=results"),
        ({"hr": None, "lr": None}, "--hr or --lr is required"),
        ({"run": "../x"}, "should match pattern"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    wrong: dict[str, object], says: str, compared: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=says):
        options(compared, tmp_path, **wrong)


@pytest.mark.slow
def test_many_images_lie_beside_the_page_and_old_ones_go(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report.fn(options(compared, tmp_path, gallery=3))
    assert not (tmp_path / "images").exists()
    monkeypatch.setattr(gallery, "EMBEDDED_BYTES", 1000)
    monkeypatch.setattr(gallery, "THUMBNAIL", 32)
    report.fn(options(compared, tmp_path, gallery=4))
    first = {path.name for path in (tmp_path / "images").iterdir()}
    assert len(first) == 4 * (1 + 2 * 3 + 2)  # LR; two methods with thumbnail and map; HR with thumbnail
    page = (tmp_path / "index.html").read_text()
    assert all(name in page for name in first)
    report.fn(options(compared, tmp_path, gallery=2))
    assert {path.name for path in (tmp_path / "images").iterdir()} < first


def test_the_images_shown_go_from_the_worst_to_the_best() -> None:
    frame = pd.DataFrame({"key": list("abcdefg"), "psnr": [5.0, 1.0, float("inf"), 3.0, 7.0, None, 2.0]})
    frame = frame.reindex(columns=["key", *(m.name for m in METRICS)])
    assert gallery.chosen(frame, 7) == ["f", "b", "g", "d", "a", "e", "c"]  # without a number first: look at these
    assert gallery.chosen(frame, 3) == ["f", "d", "c"]
    assert gallery.chosen(frame, 1) == ["f"]
    assert gallery.chosen(frame, 0) == []
    assert gallery.chosen(frame, 99) == gallery.chosen(frame, 7)


@pytest.mark.slow
def test_fid_and_kid_want_their_extra(compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(WeightsError, match=r"install 'dtls\[fid\]'; or take others with --features lpips"):
        report.fn(options(compared, tmp_path, sets=True))


class Means:
    """In Inception's place: the mean colour of an image's quarters as its features."""

    def __init__(self, *_: str) -> None: ...

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.adaptive_avg_pool2d(x.float() / 255, 2).flatten(1)


@pytest.mark.slow
def test_fid_and_kid_are_of_all_images_and_refused_for_few(
    compared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publish, "load_features", Means)
    report.fn(options(compared, tmp_path, sets=True, lpips="none"))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "KID of 12 images would be noise" in " ".join(summary["notes"])
    assert "kid" not in summary["metrics"]
    for name in ("FID_LEAST", "KID_LEAST"):
        monkeypatch.setattr(fid_kid, name, 4)
    same = {"same": str(compared / "hr"), "nearest": str(compared / "nearest")}
    report.fn(options(compared, tmp_path / "few", sets=True, lpips="none", sr=same))
    summary = json.loads((tmp_path / "few" / "summary.json").read_text())
    found = {method["method"]: method for method in summary["methods"]}
    assert abs(found["same"]["fid"]) < 1e-6 < found["nearest"]["fid"]
    assert "biased" in " ".join(summary["notes"])
    assert "KID ↓" in (tmp_path / "few" / "summary.md").read_text()
    page = (tmp_path / "few" / "index.html").read_text()
    assert '"distortion":"psnr","perception":"authors_consistency"' in page  # numbers of single images
    spread = METRICS_OF_SETS["kid"].text(found["nearest"]["kid_spread"])
    assert all(f" ± {spread}" in text for text in (page, (tmp_path / "few" / "summary.md").read_text()))
