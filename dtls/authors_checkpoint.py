"""Import of checkpoints made by the authors' code (github.com/GreyCC/DTLS): `{"step", "model", "ema"}` in a `.pt`.

The only files of the project that are read with pickle, and then with `weights_only=True`.
"""

import re
from dataclasses import asdict, replace
from pathlib import Path

from torch import Tensor

from dtls.checkpoints.bounds import TooLargeError, load_pickled
from dtls.checkpoints.checkpoint import load_weights, save_checkpoint
from dtls.errors import CheckpointError, SizeError
from dtls.models.dtls import DTLS, ModelConfig, steps_between
from dtls.training.presets import PRESETS


def import_checkpoint(path: Path, folder: Path, preset: str | None = None) -> DTLS:
    """Turn the authors' `.pt` (their EMA weights) into a checkpoint folder, and return the model.

    Sizes come from `preset`, else from a name like the authors' (`SR_16_128_s4.pt`), else from the preset with
    the same widths. CheckpointError where none fits.
    """
    tensors = _read_authors(path)
    dim, multipliers = _widths(tensors, path)
    try:
        config = replace(_authors_sizes(path, dim, multipliers, preset), dim=dim, multipliers=multipliers)
        model = DTLS(**asdict(config))
    except SizeError as error:
        raise CheckpointError(f"{path}: {error}") from error
    renamed = {"unet." + _our_name(key): tensor for key, tensor in tensors.items()}
    renamed = {k: v.flatten() if k.endswith(("norm.weight", "norm.bias")) else v for k, v in renamed.items()}
    load_weights(model, renamed, str(path))
    save_checkpoint(model, folder)
    return model


def _read_authors(path: Path) -> dict[str, Tensor]:
    try:
        content = load_pickled(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: no such file") from error
    except TooLargeError as error:
        raise CheckpointError(f"{path}: {error}") from error
    except Exception as error:  # torch.load raises whatever its many formats raise
        raise CheckpointError(f"{path}: not a PyTorch checkpoint that can be read safely") from error
    weights = content.get("ema") if isinstance(content, dict) else None
    prefix = "denoise_fn."
    if not isinstance(weights, dict) or not all(
        str(k).startswith(prefix) and isinstance(v, Tensor) for k, v in weights.items()
    ):
        raise CheckpointError(f"{path}: not in the DTLS authors' layout ({{step, model, ema}} of {prefix}…)")
    return {key.removeprefix(prefix): tensor for key, tensor in weights.items()}


def _widths(tensors: dict[str, Tensor], path: Path) -> tuple[int, tuple[int, ...]]:
    levels = sorted(int(k.split(".")[1]) for k in tensors if re.fullmatch(r"downs\.\d+\.1\.ds_conv\.bias", k))
    widths = [tensors[f"downs.{i}.1.ds_conv.bias"].numel() for i in levels]
    if not widths or not widths[0]:
        raise CheckpointError(f"{path}: has no level of the authors' U-Net")
    return widths[0], tuple(w // widths[0] for w in widths)


def _authors_sizes(path: Path, dim: int, multipliers: tuple[int, ...], preset: str | None) -> ModelConfig:
    if preset is not None:
        if preset not in PRESETS:
            raise CheckpointError(f"{path}: no preset {preset}; known: {', '.join(PRESETS)}")
        config = PRESETS[preset].model
        if (config.dim, config.multipliers) != (dim, multipliers):
            raise CheckpointError(
                f"{path}: has dim {dim} and multipliers {','.join(map(str, multipliers))}; preset {preset} has "
                f"{config.dim} and {','.join(map(str, config.multipliers))}"
            )
        return config
    if match := re.search(r"(\d+)_(\d+)_s(\d+)", path.stem):
        low, size, stride = map(int, match.groups())
        return ModelConfig(size=size, stride=stride, steps=steps_between(low, size, stride))
    for known in PRESETS.values():
        if (known.model.dim, known.model.multipliers) == (dim, multipliers):
            return known.model
    raise CheckpointError(
        f"{path}: its sizes are not known; name it LR_HR_sSTRIDE, like SR_16_128_s4.pt, or say a preset that fits"
    )


_OUR_NAMES = (
    (r"^time_mlp\.1\.", "time.hidden."),
    (r"^time_mlp\.3\.", "time.out."),
    (r"^downs\.(\d+)\.", r"encoder.\1."),
    (r"^ups\.(\d+)\.", r"decoder.\1."),
    (r"^((?:en|de)coder\.\d+)\.0\.", r"\1.block1."),
    (r"^((?:en|de)coder\.\d+)\.1\.", r"\1.block2."),
    (r"^((?:en|de)coder\.\d+)\.2\.fn\.", r"\1.attention."),
    (r"^((?:en|de)coder\.\d+)\.3\.", r"\1.resample."),
    (r"^mid_block(\d)\.", r"middle\1."),
    (r"^mid_attn\.fn\.", "middle_attention."),
    (r"^final_conv\.0\.", "head."),
    (r"^final_conv\.1\.", "rgb."),
    (r"\.mlp\.1\.", ".shift."),
    (r"\.ds_conv\.", ".depthwise."),
    (r"\.net\.1\.", ".expand."),
    (r"\.net\.3\.", ".contract."),
    (r"\.res_conv\.", ".shortcut."),
    (r"\.fn\.to_qkv\.", ".qkv."),
    (r"\.fn\.to_out\.", ".out."),
    (r"\.(?:net\.0|norm)\.g$", ".norm.weight"),
    (r"\.(?:net\.0|norm)\.b$", ".norm.bias"),
)
"""The authors' parameter names and ours, applied in this order."""


def _our_name(name: str) -> str:
    for pattern, ours in _OUR_NAMES:
        name = re.sub(pattern, ours, name)
    return name
