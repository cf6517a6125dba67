"""The first minutes on a GPU: does what the tests prove on a CPU hold there, and how fast is it?

    python -m tests.bench.gpu --out FOLDER                          # all parts, each within its time
    python -m tests.bench.gpu --out FOLDER --device cpu --tiny      # does it run?

The parts, in order of worth: `smoke` compares sampling, training, tiling and the retry after running out of memory
with the CPU's results; `engine` and `engine-compiled` are `tests.bench.engine` with both presets. Each part is a
process of its own, which writes FOLDER/PART.json as it goes, so a run that is stopped has not measured for nothing.
It needs torch, numpy, Pillow, safetensors and huggingface_hub; what else the project needs may be missing.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dtls.checkpoints.checkpoint import save_checkpoint
from dtls.devices import best_device
from dtls.inference.sampling import Sampling
from dtls.inference.tiling import Tiler
from dtls.inference.trained import Trained
from dtls.models.dtls import DTLS
from dtls.training.recipe import Recipe
from dtls.training.trainer import Trainer
from tests.bench.measure import hardware
from tests.bench.subjects import SEED, images

SMOKE_SECONDS, ENGINE_SECONDS = 120, 180
"""How long a part may take."""
FP32, BF16 = 1e-3, 0.02
"""Largest mean difference of images in [0, 1] from the CPU's in fp32; TF32 convolutions round to 10 bits."""
LOSS = 0.05
"""Largest share by which a loss in bf16 may differ from the CPU's in fp32."""
TILED = 0.01
"""Largest mean difference of an image that is made in tiles from the same one in one piece."""


@dataclass(frozen=True)
class Check:
    """One comparison. found: how far it is from what it should be; bound: how far it may be."""

    name: str
    found: float
    bound: float

    @property
    def holds(self) -> bool:
        return self.found <= self.bound


class Smoke:
    """Comparisons of one device with the CPU, all with the same weights and images."""

    def __init__(self, device: str, folder: Path, *, tiny: bool) -> None:
        self.device, self.folder = device, folder
        self.side = 32 if tiny else 128
        self.steps, self.batch = (3, 2) if tiny else (8, 8)
        network: dict[str, Any] = {"dim": 4, "multipliers": (1,)} if tiny else {"dim": 32, "multipliers": (1, 2, 4)}
        geometry = {"size": self.side, "stride": self.side // 8, "steps": 6}
        self.config: dict[str, Any] = {**network, **geometry, "residual": True}
        save_checkpoint(self._model(), folder)

    def checks(self) -> list[Callable[[], list[Check]]]:
        return [self.sampling, self.training, self.tiling, self.retry]

    def sampling(self) -> list[Check]:
        """The result of a checkpoint in both precisions, against the CPU's."""
        expected = self._upscaled("cpu", Sampling(precision="fp32"))
        return [
            Check(f"sampling in {precision}", _mean_difference(self._upscaled(self.device, how), expected), bound)
            for precision, bound, how in (
                ("fp32", FP32, Sampling(precision="fp32")),
                ("bf16", BF16, Sampling(precision="bf16")),
            )
        ]

    def training(self) -> list[Check]:
        """The losses of some steps in bf16, against the CPU's; and that they fall."""
        expected, found = self._losses("cpu", "32-true"), self._losses(self.device, "bf16-mixed")
        apart = max(abs(a - b) / a for a, b in zip(expected, found, strict=True))
        return [Check("training in bf16", apart, LOSS), Check("training learns", found[-1] / found[0], 1.0)]

    def tiling(self) -> list[Check]:
        """An image in tiles, against the same one in one piece."""
        method = self._method(self.device, Sampling())
        lr = images(1, 2 * self.side)
        size = (8 * self.side, 8 * self.side)
        whole = method(lr, size)
        method.tiler.tile = 4 * self.side
        return [Check("tiling", _mean_difference(method(lr, size), whole), TILED)]

    def retry(self) -> list[Check]:
        """An image for which memory is short at first, against the same one in one piece."""
        method = self._method(self.device, Sampling())
        lr, size = images(1, 2 * self.side), (8 * self.side, 8 * self.side)
        whole = method(lr, size)
        network, failures = method.network, 0
        most = (8 * self.side) ** 2 // 2

        def short(x: Tensor, t: Tensor) -> Tensor:
            nonlocal failures
            if x.shape[-2] * x.shape[-1] <= most:
                return network(x, t)
            failures += 1
            return _run_out_of_memory(x)

        method.network, method.tiler = short, Tiler(8 * self.side)
        apart = _mean_difference(method(lr, size), whole)
        return [Check("retry in tiles", apart, TILED), Check("retry was needed", float(not failures), 0.0)]

    def _model(self) -> DTLS:
        """Always the same random weights, in layers that start with zeros, too."""
        torch.manual_seed(SEED)
        model = DTLS(**self.config)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.3 / math.sqrt(max(1, parameter[0].numel())))
        return model

    def _method(self, device: str, sampling: Sampling) -> Trained:
        return Trained(self.folder, device, sampling)

    def _upscaled(self, device: str, sampling: Sampling) -> Tensor:
        return self._method(device, sampling)(images(4, self.side // 4), (self.side, self.side)).cpu()

    def _losses(self, device: str, precision: Literal["32-true", "bf16-mixed"]) -> list[float]:
        kind, _, index = device.partition(":")
        fabric = _fabric()(accelerator=kind, devices=[int(index)] if index else 1, precision=precision)
        trainer = Trainer(self._model(), Recipe(steps=self.steps, learning_rate=1e-3), fabric)
        batch = (images(self.batch, self.side) * 255).to(torch.uint8)
        return [trainer.step(batch) for _ in range(self.steps)]


def _fabric() -> Any:
    """Lightning's Fabric, whichever of its packages is there."""
    return import_module("lightning_fabric" if find_spec("lightning_fabric") else "lightning.fabric").Fabric


def _run_out_of_memory(x: Tensor) -> Tensor:
    """What an allocator does that has no memory left; a GPU's really does it."""
    if x.is_cuda:
        total = torch.cuda.get_device_properties(x.device).total_memory
        return torch.empty(2 * total, dtype=torch.uint8, device=x.device)
    raise torch.OutOfMemoryError("can't allocate memory")


def _mean_difference(a: Tensor, b: Tensor) -> float:
    return (a.float().cpu() - b.float().cpu()).abs().mean().item()


def smoke(device: str, out: Path, *, tiny: bool) -> int:
    """Make the comparisons, write `smoke.json` after each; the number of those that do not hold."""
    found: list[Check] = []
    errors: list[str] = []
    conditions = {
        "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        "torch": torch.__version__,
        "tiny": tiny,
        **asdict(hardware(device)),
    }
    with tempfile.TemporaryDirectory() as folder:
        for check in Smoke(device, Path(folder), tiny=tiny).checks():
            try:
                found += check()
            except Exception as error:  # the others have their chance
                errors.append(f"{check.__name__}: {type(error).__name__}: {error}")
            checks = [{**asdict(one), "holds": one.holds} for one in found]
            content = {"conditions": conditions, "checks": checks, "errors": errors}
            (out / "smoke.json").write_text(json.dumps(content, indent=2) + "\n")
    for one in found:
        sys.stdout.write(f"{one.name}: {one.found:.4g}, at most {one.bound:g}: {'holds' if one.holds else 'FAILS'}\n")
    for line in errors:
        sys.stdout.write(f"{line}\n")
    return len(errors) + sum(not one.holds for one in found)


def parts(options: argparse.Namespace) -> dict[str, tuple[list[str], int]]:
    """The command of each part, and the seconds that it may take."""
    engine = ["-m", "tests.bench.engine", "--device", options.device, *(["--quick"] if options.tiny else [])]
    here = ["-m", "tests.bench.gpu", "--part", "smoke", "--device", options.device, "--out", str(options.out)]
    return {
        "smoke": ([*here, *(["--tiny"] if options.tiny else [])], SMOKE_SECONDS),
        "engine": ([*engine, "--json", str(options.out / "engine.json")], ENGINE_SECONDS),
        "engine-compiled": (
            [*engine, "--compile", "--json", str(options.out / "engine-compiled.json")],
            ENGINE_SECONDS,
        ),
    }


def run_parts(commands: dict[str, tuple[list[str], int]]) -> int:
    """Run each part within its time; 1 where one failed or ran out of it."""
    failed = 0
    for name, (arguments, seconds) in commands.items():
        sys.stdout.write(f"\n{name}\n")
        sys.stdout.flush()
        try:
            failed |= bool(subprocess.run([sys.executable, *arguments], check=False, timeout=seconds).returncode)
        except subprocess.TimeoutExpired:
            failed = 1
            sys.stdout.write(f"{name}: ended after {seconds} s; its JSON has what was measured by then\n")
    return failed


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with these arguments, or the command line's; 1 where something failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.gpu", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for a JSON file a part")
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 …; auto is the GPU where there is one")
    parser.add_argument("--tiny", action="store_true", help="tiny networks: does it run?")
    parser.add_argument("--only", nargs="+", help="parts to run, instead of all")
    parser.add_argument("--part", choices=["smoke"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    options.device = best_device(options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    if options.part:
        return min(1, smoke(options.device, options.out, tiny=options.tiny))
    commands = parts(options)
    return run_parts({name: commands[name] for name in options.only or commands})


if __name__ == "__main__":
    sys.exit(main())
