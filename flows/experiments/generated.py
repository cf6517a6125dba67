"""Images that models make of noise, compared with real ones (thesis, Fig. 5.4 and 5.5): GAN, DDPM, latent DDPMs.

Each model is trained on the same images for the same steps, and makes as many images as there are real ones to
compare them with.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from json import dumps, loads
from typing import Any

from dtls.devices import best_device
from flows.engine.flow import as_part
from flows.evaluation.publishing import SUMMARY
from flows.experiments.cost import parameters_of
from flows.experiments.experiment import Document, Experiment
from flows.experiments.options import ReproduceOptions
from flows.experiments.testbed import Testbed
from flows.generate import GenerateOptions, generate
from flows.inputs.contents import list_images
from flows.interface.options import command_line
from flows.interface.text import counted
from flows.report import ReportOptions, report
from flows.training.options import TrainOptions
from reports.metrics.registry import SET_METRICS
from reports.tables.render import markdown_table
from storage.archives.source import open_source
from storage.images.photo import open_photo
from storage.stores.location import Location

METHODS: dict[str, dict[str, Any]] = {
    "GAN": {"method": "dcgan"},
    "DDPM": {"method": "ddpm"},
    "VAE-DDPM": {"method": "vae-gen"},
    "VQVAE-DDPM": {"method": "vqvae-gen"},
}
"""How the thesis' methods are trained."""
TITLES = {
    "5.4": "Thesis, Fig. 5.4: generated faces",
    "5.5": "Thesis, Fig. 5.5: generated H&E tiles and MRI",
    "prior": "Generated LR images, enlarged",
}
MAX_SAMPLES, SHOWN = 1000, 64
"""How many images a model makes at most, and how many of them the report shows."""


class Generated:
    """One figure, on whatever images are given.

    default_size, default_steps: side of the images in pixels, and training steps, where nothing is said.
    """

    default_size, default_steps = 64, 20_000
    note = "The thesis shows images and no numbers."

    def __init__(self, options: ReproduceOptions) -> None:
        self.options = options
        self.testbed = Testbed.of(options, options.size or self.default_size)

    def check(self) -> None:
        """Refuse, before any work, folders inside each other and sizes that do not fit."""
        self.testbed.data.check(Location.of(self.options.out))
        for train in METHODS.values():
            self._training(train, channels=3).model()

    def document(self) -> Document:
        self.testbed.make_hr()
        real = list_images(open_source(self.testbed.hr()))
        trainings = self.trainings()
        Experiment(self.testbed).train(trainings.values())
        made = self.sets(trainings, min(len(real), MAX_SAMPLES))
        numbers = self._reported(made)
        sizes = {label: f"{parameters_of(training):,}" for label, training in trainings.items()}
        lines = [
            [
                label,
                *(metric.text(numbers.get(label, {}).get(metric.name)) for metric in SET_METRICS),
                sizes.get(label, "–"),
            ]
            for label in made
        ]
        head = ["Method", *(metric.heading for metric in SET_METRICS), "parameters"]
        return Document(
            f"# {TITLES[self.options.table]}\n\n{self._conditions(len(real))}\n\n{markdown_table(head, lines)}\n\n"
            f"{self.note} [Samples that nobody picked, and the nearest training image of each]"
            f"({self._report}/index.html)\n"
        )

    def trainings(self) -> dict[str, TrainOptions]:
        """How each method is trained, by its label: on grey images where the first test image is grey."""
        source = open_source(self.testbed.hr())
        channels = open_photo(source.fetch(list_images(source)[0])).pixels.shape[2]
        return {label: self._training(train, channels) for label, train in METHODS.items()}

    def sets(self, trainings: Mapping[str, TrainOptions], count: int) -> dict[str, str]:
        """Where the images of each row of the table are, made if they were missing."""
        return {label: self._generated(label, training, count) for label, training in trainings.items()}

    def _training(self, train: Mapping[str, Any], channels: int) -> TrainOptions:
        """How a model is trained; its folder is named after all that depends on."""
        options = self.options
        chosen: dict[str, Any] = {
            "size": self.testbed.size,
            "steps": self.steps,
            **train,
            "batch_size": options.batch_size,
            "precision": options.precision,
            "network": {"channels": str(channels), **train.get("network", {})},
        }
        digest = sha256(dumps([self.testbed.data.name, chosen], sort_keys=True).encode()).hexdigest()[:8]
        target = self.testbed.at(f"models/{train['method']}-{chosen['size']}-{digest}")
        return TrainOptions(source=self.testbed.shards, target=target, device=options.device, resume=True, **chosen)

    def _generated(self, label: str, training: TrainOptions, count: int, **enlarged: Any) -> str:
        """Where the images of a model are, made if they were missing. enlarged: options of what enlarges them."""
        target = self.testbed.at(f"generated/{self.options.table}/{label}")
        common = {"device": self.options.device, "overwrite": True, **self.testbed.common}
        as_part(generate, GenerateOptions(model=training.target, target=target, count=count, **enlarged, **common))
        return target

    @property
    def steps(self) -> int:
        """Of each training."""
        return self.options.steps or self.default_steps

    @property
    def _report(self) -> str:
        return f"report-{self.options.table}"

    def _reported(self, made: Mapping[str, str]) -> dict[str, dict[str, Any]]:
        """The numbers of each model's images, by its label."""
        places = {"real": self.testbed.hr(), "out": self.testbed.at(self._report)}
        if self.testbed.data.test is not None:  # else the shards have what is held out, too
            places["train"] = self.testbed.shards
        chosen = {
            "features": self.options.features,
            "device": self.options.device,
            **self.testbed.common,
        }
        as_part(
            report,
            ReportOptions(generated=dict(made), title=TITLES[self.options.table], gallery=SHOWN, **places, **chosen),
        )
        summary = loads(Location.of(self.testbed.at(self._report)).read(SUMMARY))
        return {row["method"]: row for row in summary["methods"]}

    def _conditions(self, real: int) -> str:
        """Under what the numbers were taken."""
        facts = [
            *self.testbed.counts(),
            f"{self.testbed.size}×{self.testbed.size} pixels",
            f"{self.steps:,} steps",
            f"{counted(min(real, MAX_SAMPLES), 'sample')} a method",
            f"features {self.options.features}",
            f"device {best_device(self.options.device)}",
            f"{datetime.now(UTC):%Y-%m-%d}",
        ]
        said = " · ".join(facts)
        return f"{said[0].upper()}{said[1:]}\n\n`{command_line('reproduce', self.options)}`"
