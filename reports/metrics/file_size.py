"""How many bytes a result is made from: the file that would have to be stored or sent."""

from reports.metrics.metric import SampleMetric
from reports.metrics.planes import no_numbers

FILE_SIZE = SampleMetric(
    name="bytes",
    label="File size",
    decimals=0,
    lower_is_better=True,
    unit="bytes",
    description="of the LR file that a result is made from, or of a codec's file; with --rates",
    is_later=True,
    needs=frozenset({"file"}),
    compute=lambda images: no_numbers(images.sr),  # pixels do not tell it: whoever reads the files does
)
