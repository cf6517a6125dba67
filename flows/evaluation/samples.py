"""One key of a comparison with all its images, as they are measured: read, made to fit, and said in what unlike."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from dtls.degradations.operator import Operator
from dtls.errors import SizeError
from flows.evaluation.collection import Collection, Seen
from flows.transform.sizes import Reduced
from storage.images.formats import ImageError
from storage.images.kinds import unlike
from storage.stores.errands import in_hand
from storage.stores.location import ChangedError, Entry, StorageError, UnavailableError

NO_HOLE = "no pixel of the degraded image is transparent, so that it has no consistency"
CROPPED = "HR is cropped at its right and bottom to whole LR pixels"
MAX_SCALE = 16
"""Of what HR may have been cropped for."""
SEPARATOR = "; "
"""Between the notes of one row."""


@dataclass(frozen=True)
class EvalSample:
    """One key: HR and LR, where there are such, and what methods made: uint8 (1, 3, H, W); and why some have none.

    notes: by method, in what its comparison is one of unlike things. file_sizes: by method, bytes of the file that
    its result is made from. alpha: of LR, uint8 (1, 1, h, w), where it tells which pixels are missing.
    """

    key: str
    hr: Tensor | None
    lr: Tensor | None
    sr: Mapping[str, Tensor]
    failed: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    file_sizes: Mapping[str, int] = field(default_factory=dict)
    alpha: Tensor | None = None

    @property
    def kind(self) -> tuple[object, ...]:
        """What scenes of one batch have in common."""
        sizes = ((name, x.shape) for name, x in self.sr.items())
        return (self.hr is None or self.hr.shape, self.lr is None or self.lr.shape, self.alpha is None, *sizes)

    @property
    def pixels(self) -> int:
        return sum(x[0, 0].numel() for x in (self.hr, *self.sr.values()) if x is not None)


@dataclass(frozen=True)
class Stage:
    """Where scenes come from; HR or LR may be missing, not both. refused: why some METHOD/KEY are not to be read.

    operator: what degraded images of HR's size; None where LR images are smaller.
    """

    hr: Collection | None
    lr: Collection | None
    sr: Mapping[str, Collection]
    refused: Mapping[str, str] = field(default_factory=dict)
    operator: Operator | None = None

    @property
    def has_holes(self) -> bool:
        """Whether degraded images tell by their alpha channel which pixels are missing."""
        return self.operator is not None and self.operator.needs_mask

    def scenes(self, key: str, listed: Mapping[str, Sequence[Entry | None]]) -> list[EvalSample]:
        """The scene of HR, LR and SR as they were listed for each method; two where HR is cropped for some."""
        lost = {method: why for method in listed if (why := self.refused.get(f"{method}/{key}"))}
        if lost:
            rest = {method: entries for method, entries in listed.items() if method not in lost}
            return [EvalSample(key, None, None, {}, lost), *(self._seen(key, rest) if rest else [])]
        return self._seen(key, listed)

    def _seen(self, key: str, listed: Mapping[str, Sequence[Entry | None]]) -> list[EvalSample]:
        with in_hand(key):
            return self._scenes(key, listed)

    def _scenes(self, key: str, listed: Mapping[str, Sequence[Entry | None]]) -> list[EvalSample]:
        hr_entry, lr_entry, _ = next(iter(listed.values()))
        try:
            hr = self.hr.see(hr_entry) if self.hr is not None else None
            lr = self._see_lr(lr_entry)
        except (UnavailableError, ChangedError):  # of no image's quality
            raise
        except (ImageError, StorageError) as error:
            return [EvalSample(key, None, None, {}, dict.fromkeys(listed, str(error)))]
        failed: dict[str, str] = {}
        notes: dict[str, str] = {}
        file_sizes: dict[str, int] = {}
        fitting: dict[tuple[int, ...], dict[str, Tensor]] = {}
        for method, (*_, entry) in listed.items():
            try:
                x = self.sr[method].see(entry)
                size = _size_of_truth(x, hr, lr)
            except (UnavailableError, ChangedError):
                raise
            except (ImageError, SizeError, StorageError) as error:
                failed[method] = str(error)
                continue
            fitting.setdefault(size, {})[method] = x.pixels
            notes[method] = SEPARATOR.join(self._notes(x, hr, lr))
            if (file := x if self.sr[method].has_own_files else lr) is not None:
                file_sizes[method] = file.file_size
        lr_pixels, alpha = (lr.pixels, lr.alpha) if lr is not None else (None, None)
        scenes = [
            EvalSample(key, _cropped(hr, size), lr_pixels, sr, {}, {m: notes[m] for m in sr}, file_sizes, alpha)
            for size, sr in fitting.items()
        ]
        return [*scenes, *([EvalSample(key, None, None, {}, failed)] if failed else [])]

    def _notes(self, x: Seen, hr: Seen | None, lr: Seen | None) -> Iterator[str]:
        """In what a comparison is one of unlike things; colours and holes of degraded images are meant to differ."""
        if hr is not None:
            if hr.size != x.size:
                yield CROPPED
            yield from unlike(hr.kind, x.kind, "HR")
        elif lr is not None and (self.operator is None or not self.operator.changes_shape):
            yield from unlike(lr.kind, x.kind, "LR")
        if self.has_holes and lr is not None and lr.alpha is None:
            yield NO_HOLE

    def _see_lr(self, entry: Entry | None) -> Seen | None:
        """The LR image; None where it cannot be had and HR is enough."""
        try:
            return self.lr.see(entry, holes=self.has_holes) if self.lr is not None else None
        except (UnavailableError, ChangedError):
            raise
        except (ImageError, StorageError):
            if self.hr is None:
                raise
            return None


def _size_of_truth(x: Seen, hr: Seen | None, lr: Seen | None) -> tuple[int, ...]:
    """The (h, w) of HR that SR is compared with: HR's own, or that of whole LR pixels; SizeError where it is neither.

    LR images are often made of the part of HR that is whole LR pixels, from its top left corner.
    """
    size = x.size
    if hr is None or hr.size == size:
        return size
    if lr is not None and size[0] * lr.size[1] == size[1] * lr.size[0]:
        height, width = hr.size
        scale = size[0] / lr.size[0]
        is_cropped = size == Reduced(scale, cropped=True).part((height, width))  # of broken scales, by more than one
        if is_cropped or all(0 <= whole - part < scale for whole, part in zip(hr.size, size, strict=True)):
            return size
    why = f"SR is {_written(size)}, HR is {_written(hr.size)}"
    if hr.size == size[::-1] and hr.kind.orientation != x.kind.orientation:
        why += ", turned upright by EXIF orientations"
    if lr is None and all(0 <= whole - part < MAX_SCALE for whole, part in zip(hr.size, size, strict=True)):
        why += "; --lr says whether HR is to be cropped to whole LR pixels"
    raise SizeError(why)


def _cropped(hr: Seen | None, size: tuple[int, ...]) -> Tensor | None:
    return hr.pixels[..., : size[0], : size[1]] if hr is not None else None


def _written(size: tuple[int, ...]) -> str:
    return f"{size[1]}×{size[0]}"
