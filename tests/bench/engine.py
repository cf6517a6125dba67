"""The benchmark's program: the paper's sampler and a plain training loop against ours, as Markdown and as JSON.

Plain is the textbook network (`plain.PlainUNet`): fp32, eager, NCHW, all T calls of the sampler `current`. Ours is
`dtls.networks.unet.UNet` through `dtls.devices.accelerated` with the sampler `two_call`, and
`dtls.training.trainer.Trainer`. Both run under torch's default settings, on the same images, in sampling with the
same weights. The best batch is searched with single calls of the network, ours before it is compiled. Rates are
medians over repetitions in which the two take turns, after a warm-up. Memory is the peak of what torch allocated on a
GPU for a variant, weights included. A training step counts three forwards; the median leaves out the one step in ten
in which `Trainer` averages weights.
"""

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from dtls.choices import Precision
from dtls.devices import best_device, best_precision
from tests.bench import report
from tests.bench.kinds import profiled
from tests.bench.measure import Memory, best_batch, forget, forward_flops, hardware, interleaved, matrix_peak, psnr
from tests.bench.report import Pair, Results, Sampling, Training
from tests.bench.subjects import (
    SEED,
    SHAPES,
    Network,
    Shape,
    Weights,
    images,
    images_are_real,
    once,
    our_network,
    our_sampler,
    plain_network,
    plain_sampler,
    random_weights,
    trained_weights,
)
from tests.bench.training import our_step, plain_step

TRAINED = "16-128"
"""The preset whose training is measured."""


class Benchmark:
    """One run: it measures part by part, and after each prints a row and writes the JSON."""

    def __init__(self, options: argparse.Namespace, command: str) -> None:
        self.options = options
        self.device = best_device(options.device)
        self.precision = best_precision(options.precision, self.device)
        self.models = self._models()
        self.found = Results(self._conditions(command))

    def run(self) -> None:
        """Everything, in the order in which a run that is stopped is worth most."""
        self._tell(report.conditions(self.found))
        self._attempt("peak", self._peak)
        self._tell(report.head(report.TRAINING))
        self._attempt("training", self._training)
        self._tell(report.head(report.SAMPLING))
        for name, (shape, weights) in self.models.items():
            self._attempt(f"{name}, batch 1", partial(self._sampling, name, shape, weights, (1, 1)))
            self._attempt(f"{name}, best batch", partial(self._best, name, shape, weights))
        if self.found.profiles:
            self._tell(report.profiles(self.found))

    def _models(self) -> dict[str, tuple[Shape, Weights]]:
        if self.options.checkpoint is not None:
            shape, weights = trained_weights(self.options.checkpoint)
            return {f"{shape.degradation.lr_size}-{shape.size}": (shape, weights)}
        shapes = {name: self._sized(SHAPES[name]) for name in self.options.presets}
        return {name: (shape, random_weights(shape, self.device)) for name, shape in shapes.items()}

    def _sized(self, shape: Shape) -> Shape:
        return shape.tiny() if self.options.quick else shape

    def _conditions(self, command: str) -> dict[str, str]:
        machine = hardware(self.device)
        random = f"random (seed {SEED}), the last layer scaled so that images fill [0, 1]"
        return {
            "date": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
            "CPU": f"{machine.cpu}, {machine.cores} cores, {machine.threads} threads of torch",
            "GPU": machine.gpu or "none used",
            "torch": torch.__version__,
            "command": command,
            "plain": "fp32, eager, NCHW",
            "TF32 for fp32": f"{torch.backends.cudnn.allow_tf32} in cuDNN's convolutions, "
            f"{torch.backends.cuda.matmul.allow_tf32} in matrix products (torch's defaults)",
            "ours": f"{self.precision}, channels_last, {'compiled' if self.options.compile else 'eager'}",
            "weights": random if self.options.checkpoint is None else f"{self.options.checkpoint}",
            "images": "scikit-image's astronaut" if images_are_real() else "smooth noise (no scikit-image here)",
            "networks": "tiny, so the numbers say nothing" if self.options.quick else "as in the paper",
        }

    def _peak(self) -> None:
        side = 256 if self.options.quick else 8192 if self.device.startswith("cuda") else 2048
        for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
            self.found.peak[name] = matrix_peak(side, dtype, self.device)
        shapes = {name: shape for name, (shape, _) in self.models.items()} | {TRAINED: self._sized(SHAPES[TRAINED])}
        for name, shape in shapes.items():
            with torch.device("meta"):
                self.found.forward_flops[name] = forward_flops(shape.plain(), shape.size)
        self._tell(report.peak(self.found))

    def _training(self) -> None:
        shape, count, compiled = self._sized(SHAPES[TRAINED]), self.options.train_batch, self.options.compile
        batch = (images(count, shape.size) * 255).to(torch.uint8)
        memory = Memory(self.device)
        plain = plain_step(shape, batch, self.device)
        plain()
        plain_memory = memory.peak(plain)
        memory = Memory(self.device)
        words, ours = our_step(shape, batch, self.device, self.precision, compiled=compiled)
        ours()
        our_memory = memory.peak(ours)
        times = interleaved((plain, ours), self.options.repeats, self.device)
        row = Training(
            what=TRAINED,
            batch=Pair(count, count),
            rate=Pair(1 / times[0], 1 / times[1]),
            ratio=times[0] / times[1],
            memory=Pair(plain_memory, our_memory),
            share_of_peak=self._share(3 * count * self.found.forward_flops[TRAINED] / times[1]),
            ours_is=words,
        )
        self.found.training.append(row)
        self._tell(report.training(row))
        self._profile(f"training, batch {count}", ours)

    def _best(self, name: str, shape: Shape, weights: Weights) -> None:
        plain = self._best_batch(plain_network(shape, weights, self.device), shape)
        network = our_network(shape, weights, self.device, self.precision, compiled=False)
        self._sampling(name, shape, weights, (plain, self._best_batch(network, shape)))

    def _best_batch(self, network: Network, shape: Shape) -> int:
        return best_batch(
            lambda batch: once(network, *self._inputs(shape, batch)), self.device, 4 if self.options.quick else 512
        )

    def _inputs(self, shape: Shape, batch: int) -> tuple[Tensor, Tensor]:
        """x_T and T for a batch of images."""
        x = shape.degradation(images(batch, shape.size).to(self.device), shape.steps)
        return x, torch.full((batch,), shape.steps, device=self.device)

    def _sampling(self, name: str, shape: Shape, weights: Weights, batches: tuple[int, int]) -> None:
        (x_plain, t_plain), (x_ours, t_ours) = (self._inputs(shape, batch) for batch in batches)
        made: dict[str, Tensor] = {}
        memory = Memory(self.device)
        network = plain_network(shape, weights, self.device)
        once(network, x_plain, t_plain)
        plain = partial(plain_sampler(network, shape), x_plain)
        plain_memory = memory.peak(lambda: made.update(plain=plain().cpu()))
        memory = Memory(self.device)
        network = our_network(shape, weights, self.device, self.precision, compiled=self.options.compile)
        once(network, x_ours, t_ours)
        ours = partial(our_sampler(network, shape), x_ours)
        our_memory = memory.peak(lambda: made.update(ours=ours().cpu()))
        times = interleaved((plain, ours), self.options.repeats, self.device)
        rates = Pair(batches[0] / times[0], batches[1] / times[1])
        photographs = images(max(batches), shape.size)
        same = min(batches)
        row = Sampling(
            what=f"{name}, {shape.steps} calls / 2",
            batch=Pair(*batches),
            rate=rates,
            ratio=(batches[1] / times[1]) / (batches[0] / times[0]),
            memory=Pair(plain_memory, our_memory),
            share_of_peak=self._share(2 * batches[1] * self.found.forward_flops[name] / times[1]),
            psnr_between=psnr(made["plain"][:same], made["ours"][:same]),
            psnr=Pair(*(psnr(made[which][:same], photographs[:same]) for which in ("plain", "ours")))
            if images_are_real()
            else Pair(None, None),
        )
        self.found.sampling.append(row)
        self._tell(report.sampling(row))
        self._profile(f"{name}, batch {batches[1]}", ours)

    def _profile(self, name: str, run: Callable[[], object]) -> None:
        if self.options.profile:
            self.found.profiles[name] = profiled(run, self.device)

    def _share(self, flops_a_second: float) -> float:
        return flops_a_second / self.found.peak[self.precision]

    def _attempt(self, what: str, part: Callable[[], None]) -> None:
        """Do one part; where it fails, say so and leave the others their chance."""
        forget(compiled=self.options.compile)
        try:
            part()
        except Exception as error:
            self.found.errors.append(f"{what}: {type(error).__name__}: {error}")
            self._tell(f"\n{what} failed: {error}\n")
        if self.options.json is not None:
            self.options.json.write_text(json.dumps(asdict(self.found), indent=2) + "\n")

    def _tell(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options of one run."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.engine", description=(__doc__ or "").splitlines()[0], allow_abbrev=False
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 …; auto is the GPU where there is one")
    parser.add_argument("--precision", choices=get_args(Precision), default="auto", help="ours; auto: bf16 on GPUs")
    parser.add_argument("--compile", action="store_true", help="ours through torch.compile")
    parser.add_argument("--profile", action="store_true", help="also where the device's time goes")
    models = parser.add_mutually_exclusive_group()
    models.add_argument("--presets", nargs="+", choices=list(SHAPES), default=list(SHAPES), help="to sample with")
    models.add_argument("--checkpoint", type=Path, help="sample with this folder's model instead of random weights")
    parser.add_argument("--train-batch", type=int, default=32, help="images in a training step")
    parser.add_argument("--repeats", type=int, default=5, help="timings, of which the median counts")
    parser.add_argument("--quick", action="store_true", help="tiny networks: does it run?")
    parser.add_argument("--json", type=Path, help="write the numbers there, too")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with these arguments, or the command line's; 1 where a part failed."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parse(given)
    if options.compile and options.profile:
        from torch._inductor import config  # it takes seconds to import

        config.cpp.enable_kernel_profile = True  # else a CPU's compiled kernels have no names
    benchmark = Benchmark(options, f"python -m tests.bench.engine {shlex.join(given)}")
    benchmark.run()
    return 1 if benchmark.found.errors else 0


if __name__ == "__main__":
    sys.exit(main())
