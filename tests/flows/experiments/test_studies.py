"""Experiments that are no tables of methods: noise, schedules, latents; and figures of tables."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from dtls.errors import SizeError
from dtls.models.ddpm import DDPM
from dtls.models.diffusion import Schedule
from flows.experiments import generated, priors
from flows.experiments.cost import COSTS, Cost
from flows.experiments.noise import PUBLISHED
from flows.experiments.paper_figures import Found, panels_of
from flows.experiments.paper_rows import PaperRow
from flows.experiments.paper_tables import PAPER_TABLES
from flows.experiments.reproduction import Reproduction
from flows.reproduce import ReproduceOptions, reproduce
from flows.training.options import TrainOptions
from reports.figures.lines import Curve
from reports.metrics.kl import kl_by_moments, noised_moments
from reports.tables.chain import chain_row

NETWORKS: dict[str, dict[str, str]] = {
    "vae-ddpm": {"width": "8", "levels": "2", "ae_width": "8"},
    "vqvae-ddpm": {"width": "8", "levels": "2", "ae_width": "8", "codebook": "16"},
}


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """Three images to learn from and two others, of 32×32, and where results go."""
    for folder, numbers in (("train", range(3)), ("test", range(3, 5))):
        (tmp_path / folder).mkdir()
        for number in numbers:
            gradient = Image.radial_gradient("L").resize((64, 64)).rotate(17 * number)
            bands = [gradient.crop((n, number, n + 32, number + 32)) for n in (0, 6, 12)]
            Image.merge("RGB", bands).save(tmp_path / folder / f"{number}.png")
    return {name: str(tmp_path / name) for name in ("test", "out")} | {"source": str(tmp_path / "train")}


def made(places: dict[str, str], table: Any, **options: Any) -> list[list[str]]:
    """The cells of the rows of a table that is made."""
    path = reproduce.fn(ReproduceOptions(table=table, device="cpu", workers=2, **places, **options))
    lines = [line for line in Path(path).read_text().splitlines() if line[:2] == "| " and line[:5] != "| ---"]
    return [line.strip("| ").split(" | ") for line in lines]


def figure(places: dict[str, str], name: str) -> Image.Image:
    with Image.open(Path(places["out"]) / name) as image:
        return image.convert("RGB")


@pytest.mark.slow
def test_the_chain_of_images_follows_its_closed_form_and_stands_beside_the_slides(places: dict[str, str]) -> None:
    rows = made(places, "kl", size=32)
    forward = [[float(cell) for cell in row] for row in rows[1:6]]
    assert [row[0] for row in forward] == list(PUBLISHED)
    assert [row[-1] for row in forward] == list(PUBLISHED.values())
    for _, _, moments, closed, histogram, _ in forward:
        assert moments == pytest.approx(closed, abs=0.02)
        assert histogram > moments
    assert forward[-1][3] < 1e-3 < forward[0][3]
    closed, moments, histogram, slides = (float(cell) for cell in rows[7][1:])
    assert (closed, slides) == (3.2258, 3.7697)
    assert moments == pytest.approx(2.807, abs=0.02)
    assert histogram == pytest.approx(closed, abs=0.02)
    assert figure(places, "figure-kl.png").width > 500


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_states_of_a_ddpm_have_the_divergence_of_the_closed_form(schedule: Schedule) -> None:
    model = DDPM(size=64, width=8, levels=1, schedule=schedule, timesteps=100)
    gradient = np.asarray(Image.radial_gradient("L").resize((64, 64)), np.float32) / 255
    x0 = model.encoded(torch.from_numpy(gradient * 0.3).expand(1, 3, -1, -1))
    for t in (1, 25, 50, 75, 100):
        noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(t))
        x = model.noised(x0, torch.tensor([t]), noise).double()
        kept = float(model.chain.alphas_cumprod[t - 1])
        mean, variance = noised_moments(float(x0.mean()), float(x0.var(correction=0)), kept)
        row = chain_row("a", t, x.numpy())
        assert row["kl_moments"] == pytest.approx(kl_by_moments(mean, variance), abs=0.02)
    assert row["kl_moments"] < 0.01


@pytest.mark.slow
def test_schedules_end_in_noise_and_an_image_is_shown_on_its_way_there(places: dict[str, str]) -> None:
    rows = made(places, "4.1", size=32)
    assert [row[0] for row in rows[1:]] == ["linear", "cosine", "quadratic", "sigmoid"]
    for row in rows[1:]:
        kept = [float(cell) for cell in row[1:6]]
        assert kept == sorted(kept, reverse=True)
        assert kept[0] == 1 > 1e-3 > kept[-1]
        assert float(row[6]) < 1e-3
    sheet = np.asarray(figure(places, "figure-4.1-images.png"))
    assert sheet.shape[1] > 9 * 256
    assert figure(places, "figure-4.1.png").width > 1500


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"table": "4.1", "steps": 5}, "--steps means nothing to table 4.1; leave it out"),
        ({"table": "kl", "batch_size": 5}, "--batch-size means nothing to table kl"),
        ({"table": "4.2", "protocol": "antialias"}, "--protocol means nothing to table 4.2"),
        ({"table": "5.4", "dim": 16}, "--dim means nothing to table 5.4"),
        ({"table": "kl", "ratings": ["a.json"]}, "--ratings means nothing to table kl"),
        ({"table": "5.1", "features": "lpips"}, "--features means nothing to table 5.1"),
    ],
)
def test_options_that_mean_nothing_to_a_study_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ReproduceOptions(source="a", out="b", **options)


def shrunk(monkeypatch: pytest.MonkeyPatch, table: str, *labels: str) -> None:
    """Leave only rows with these labels in a table, with the smallest networks."""
    rows = [row for row in PAPER_TABLES[table].rows if row.label in labels]
    small = [
        replace(row, train={**row.train, "network": NETWORKS[method]})
        if (method := row.train.get("method")) in NETWORKS
        else row
        for row in rows
    ]
    monkeypatch.setitem(PAPER_TABLES, table, replace(PAPER_TABLES[table], rows=tuple(small)))


TINY: dict[str, Any] = {"size": 32, "dim": 8, "steps": 4, "batch_size": 2}


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize(
    ("table", "label"), [("4.2", "VAE-DDPM"), pytest.param("4.3", "VQVAE-DDPM", marks=pytest.mark.nightly)]
)
def test_latents_are_drawn_between_the_image_and_what_is_decoded(
    table: str, label: str, places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrunk(monkeypatch, "5.1", label)
    rows = made(places, table, size=32, steps=4, batch_size=2)
    assert [row[0] for row in rows[1:]] == ["1", "2", "3"]
    assert all(len(row) == 5 for row in rows)
    assert figure(places, f"figure-{table}.png").width == 2 * 32 + 5 * 256 + 4 * 16


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_parameters_stand_beside_quality_and_beside_what_was_published(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shrunk(monkeypatch, "5.8", "FSRCNN")
    head, row = made(places, "5.8", **TINY)
    assert head[-1] == "parameters"
    assert row[-1] == "24,683 (25,000)"
    assert figure(places, "figure-5.8.png").width > 1000


def test_costs_are_measured_for_the_table_that_has_them(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, ...]] = []

    def cost_of(*given: Any) -> Cost:
        asked.append(given)
        return Cost(0.5, None, 24_683)

    monkeypatch.setattr("flows.experiments.reproduction.cost_of", cost_of)
    for table, columns in (("5.7", ["4", "24,683", "0.500", "–"]), ("5.8", ["24,683"])):
        made = Reproduction(ReproduceOptions(table=table, device="cpu", **places, **TINY))
        row = next(row for row in made.table.rows if row.label == "FSRCNN")
        costs = made.costs(row)
        assert [cost.text(costs.get(cost.name)) for cost in COSTS if cost.name in made.table.costs] == columns
    assert [given[1:3] for given in asked] == [(8, 32)]


def found(tmp_path: Path, label: str, steps: int, **numbers: float) -> Found:
    """A row whose training has saved its losses."""
    (tmp_path / label).mkdir(exist_ok=True)
    lines = "".join(f"{step},{1 / step}\n" for step in range(1, steps + 1))
    (tmp_path / label / "loss.csv").write_text(f"step,loss\n{lines}")
    training = TrainOptions(source="a", target=str(tmp_path / label), method="srcnn", steps=steps)
    return [(PaperRow(label, 16), training, numbers)]


def test_losses_are_means_of_parts_of_each_training(tmp_path: Path) -> None:
    ((panel),) = panels_of("losses", [*found(tmp_path, "a", 200), *found(tmp_path, "b", 3)])
    assert [curve.label for curve in panel.curves] == ["a", "b"]
    assert list(panel.curves[0].x)[:2] == [1.5, 3.5]
    assert list(panel.curves[0].y)[:2] == pytest.approx([0.75, 7 / 24])
    assert list(panel.curves[1].x) == [1, 2, 3]
    assert panel.log_y


def test_quality_over_steps_is_a_curve_a_method(tmp_path: Path) -> None:
    rows = [*found(tmp_path, "half", 2, psnr=20, lpips=0.5), *found(tmp_path, "whole", 4, psnr=21)]
    psnr, lpips = panels_of("steps", rows)
    assert psnr.curves == [Curve("srcnn", [2, 4], [20, 21])]
    assert lpips.curves[0].y[0] == 0.5
    assert math.isnan(lpips.curves[0].y[1])


def test_published_sizes_are_points_of_their_own(tmp_path: Path) -> None:
    ((row, training, numbers),) = found(tmp_path, "a", 2, psnr=20, ssim=0.5, parameters=7)
    published = replace(row, published={"psnr": 26.0, "parameters": 69e3})
    psnr, ssim = panels_of("parameters", [(published, training, numbers)])
    assert psnr.curves == [Curve("a", [7], [20], joined=False), Curve("as published", [69e3], [26.0], joined=False)]
    assert list(ssim.curves[1].x) == []


@pytest.mark.slow
@pytest.mark.usefixtures("warm")
def test_models_of_noise_are_trained_and_their_images_compared_with_real_ones(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = {"width": "8", "levels": "1", "timesteps": "2"}
    monkeypatch.setattr(generated, "METHODS", {"DDPM": {"method": "ddpm", "network": small}})
    rows = made(places, "5.4", size=32, steps=2, batch_size=2, features="pixels")
    assert [row[0] for row in rows] == ["Method", "DDPM"]
    assert int(rows[1][-1].replace(",", "")) > 1000
    out = Path(places["out"])
    assert sorted(path.name for path in (out / "generated" / "5.4" / "DDPM").glob("*.png")) == [
        "00000000.png",
        "00000001.png",
    ]
    assert (out / "report-5.4" / "index.html").exists()


def test_grey_images_are_learned_in_grey(places: dict[str, str]) -> None:
    for folder in ("source", "test"):
        for path in Path(places[folder]).iterdir():
            Image.open(path).convert("L").save(path)
    study = generated.Generated(ReproduceOptions(table="5.5", size=32, device="cpu", workers=2, **places))
    study.testbed.make_hr()
    study.check()
    trainings = study.trainings()
    assert list(trainings) == ["GAN", "DDPM", "VAE-DDPM", "VQVAE-DDPM"]
    assert {training.model().channels for training in trainings.values()} == {1}


def test_priors_are_trained_at_the_size_that_the_upscaler_takes(places: dict[str, str]) -> None:
    study = priors.Priors(ReproduceOptions(table="prior", size=64, device="cpu", steps=7, **places))
    study.check()
    normal, flow = study.trainings().values()
    assert (normal.model(), flow.model().size) == (flow.model(), 8)
    assert (normal.steps, flow.steps) == (1, 7)
    with pytest.raises(SizeError, match="take a multiple of 8 from 64 on"):
        made(places, "prior", size=32)


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.usefixtures("warm")
def test_lr_images_of_noise_are_enlarged_and_stand_between_random_pixels_and_real_ones(
    places: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in Path(places["out"]).parent.glob("*/*.png"):
        Image.open(path).resize((64, 64)).save(path)
    monkeypatch.setattr(priors, "NETWORK", {"components": "2", "width": "8", "blocks": "1"})
    rows = made(places, "prior", size=64, steps=3, batch_size=2, features="pixels")
    assert [row[0] for row in rows[1:]] == ["random-pixels", "normal-distribution", "lr-flow", "real-LR"]
    assert [row[-1] != "–" for row in rows[1:]] == [False, True, True, False]
    made_of = Path(places["out"]) / "generated" / "prior"
    for row in rows[1:]:
        images = sorted((made_of / row[0]).glob("*.png"))
        assert len(images) == 2
        with Image.open(images[0]) as image:
            assert image.size == (64, 64)
