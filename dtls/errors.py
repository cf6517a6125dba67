"""What goes wrong in computing, each kind with a class of its own, all below `DtlsError`.

Each message is one line that people can act on: the command line prints it as it is.
"""


class DtlsError(Exception):
    """Base of the errors that are expected: the input is at fault, not the program."""


class SizeError(DtlsError, ValueError):
    """An image, scale or model size that does not fit the others."""


class CheckpointError(DtlsError, ValueError):
    """A checkpoint that is missing, broken, or of another shape than it should be."""


class ProtocolError(DtlsError, ValueError):
    """LR images that another downscaling made than the one that is expected."""


class DegradationError(DtlsError, ValueError):
    """A degradation or a task that is not known, or that does not fit what it is used on."""


class SamplingError(DtlsError, ValueError):
    """A choice of sampling that a model does not have."""


class DeviceError(DtlsError, ValueError):
    """A device that is not there."""


class MemoryShortError(DtlsError, RuntimeError):
    """Memory that does not even suffice for the smallest tile."""


class TrainingError(DtlsError, RuntimeError):
    """Training that cannot go on."""


class WeightsError(DtlsError, RuntimeError):
    """Weights of a metric's network that are missing, or are not the known ones."""
