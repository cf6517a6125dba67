"""Where the device's time goes, by kinds of work: what limits a network on this device.

On a GPU the kernels' own names say what they are, compiled and captured in a graph or not; on a CPU torch's operators
and the shapes they were called with do. What torch.compile fused
counts as softmax or normalisation if that is in it.
"""

import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from tests.bench.measure import synchronize

KINDS = (
    "convolutions and matrix products",
    "depthwise convolutions",
    "normalisation",
    "softmax of the attention",
    "element-wise",
    "copies",
    "other",
)
MATRIX, DEPTHWISE, NORM, SOFTMAX, ELEMENTWISE, COPIES, OTHER = KINDS

FUSED = (  # by torch.compile; the first that is found in what it named after all that it fused
    (MATRIX, r"triton_tem"),
    (SOFTMAX, r"softmax"),
    (NORM, r"layer_norm|var_mean"),
    (COPIES, r"fused_(_to_copy_|cat_|clone_|permute_|view_|_unsafe_view_)+\d+$"),
    (ELEMENTWISE, r"fused"),
)
KERNELS = (  # the first that is found in a kernel's name
    (DEPTHWISE, r"depthwise|_c1_k1_|grouped"),
    (SOFTMAX, r"softmax"),
    (NORM, r"layer_?norm|GammaBeta|RowwiseMoments"),
    (COPIES, r"memcpy|memset|copy_kernel|nchwToNhwc|nhwcToNchw|CatArray|convertTensor"),
    (ELEMENTWISE, r"elementwise_kernel|multi_tensor|at::native::reduce_kernel"),
    (MATRIX, r"gemm|nvjet|cutlass|xmma|cudnn|conv|fprop|dgrad|wgrad|splitK|cublas"),
)
OPERATORS = (  # the first that is found in an operator's name
    (SOFTMAX, r"softmax"),
    (NORM, r"layer_?norm|var_mean"),
    (COPIES, r"copy|aten::(cat|clone|contiguous|fill_|zero_|flip|to)$"),
    (MATRIX, r"convolution|conv2d|mm(Backward0)?$|aten::(linear|matmul)$"),
    (ELEMENTWISE, r"aten::_?(add|sub|mul|div|gelu|lerp|clamp|rsqrt|sum|mean|where|abs|sign|sin|cos|fused_adam)"),
)


@dataclass(frozen=True)
class Profile:
    """shares: of each kind in the device's busy time. busy: that in the time that passed; None on a CPU."""

    shares: dict[str, float]
    busy: float | None


def profiled(run: Callable[[], object], device: str) -> Profile:
    """What one `run`, already warm, spends the device's time on."""
    on_gpu = device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, record_shapes=not on_gpu) as profiler:
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        passed = time.perf_counter() - start
    events = profiler.events() or []
    spent = _kernel_times(events) if on_gpu else _operator_times(events)
    total = sum(spent.values())
    shares = {kind: spent[kind] / total if total else 0.0 for kind in KINDS}
    return Profile(shares, total / 1e6 / passed if on_gpu else None)


def kind_of_kernel(name: str) -> str:
    """The kind of a CUDA kernel."""
    return _first(FUSED if name.startswith("triton_") else KERNELS, name)


def kind_of_operator(name: str, shapes: Sequence[Any]) -> str:
    """The kind of one of torch's operators, called with tensors of these shapes (empty for what is no tensor)."""
    depthwise = any(len(shape) == 4 and shape[1] == 1 and shape[-1] > 1 for shape in shapes[1:3])
    if depthwise and re.search("conv", name):
        return DEPTHWISE
    return _first(FUSED if "cpp_fused" in name else OPERATORS, name)


def _first(patterns: Sequence[tuple[str, str]], name: str) -> str:
    return next((kind for kind, pattern in patterns if re.search(pattern, name, re.IGNORECASE)), OTHER)


def _kernel_times(events: Sequence[FunctionEvent]) -> dict[str, float]:
    spent: dict[str, float] = defaultdict(float)
    for event in events:
        if event.device_type.name == "CUDA" and not event.is_user_annotation:
            spent[kind_of_kernel(event.name)] += event.time_range.elapsed_us()
    return spent


def _operator_times(events: Sequence[FunctionEvent]) -> dict[str, float]:
    spent: dict[str, float] = defaultdict(float)
    for event in events:
        spent[kind_of_operator(event.name, event.input_shapes or ())] += event.self_cpu_time_total
    return spent
