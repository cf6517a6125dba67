"""Sizes and the scale between them."""

from dtls.errors import SizeError


def downscale_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    """The (h, w) of the LR image of an HR image of `size` (H, W); refuses what does not divide."""
    low = tuple(n / scale for n in size)
    if any(n < 1 or abs(n - round(n)) > 1e-6 for n in low):
        raise SizeError(f"{size[1]}×{size[0]} is no multiple of the scale {scale:g}")
    return round(low[0]), round(low[1])


def scale_between(low: tuple[int, int], high: tuple[int, int]) -> float:
    """The one scale from (h, w) to (H, W); SizeError where the sides differ by more than rounding."""
    longer = low.index(max(low))  # where rounding moves the scale least
    scale = high[longer] / low[longer]
    if any(abs(n * scale - m) > 1 for n, m in zip(low, high, strict=True)):
        across, down = high[1] / low[1], high[0] / low[0]
        raise SizeError(f"×{across:g} across and ×{down:g} down: one scale is needed")
    return scale
