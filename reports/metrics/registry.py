"""The metrics of a report, in the order of its tables. A new metric is one module and one line here."""

from reports.metrics.authors_consistency import AUTHORS_CONSISTENCY
from reports.metrics.consistency import CONSISTENCY, LR_PSNR
from reports.metrics.fid_kid import FID, KID
from reports.metrics.file_size import FILE_SIZE
from reports.metrics.inception_score import INCEPTION_SCORE
from reports.metrics.lpips import LPIPS
from reports.metrics.metric import Metric, SampleMetric, SetMetric
from reports.metrics.neighbours import COVERAGE, DENSITY, NEAR_TRAINING, PRECISION, RECALL
from reports.metrics.psnr import PSNR
from reports.metrics.ssim import SSIM, SSIM_GAUSSIAN

METRICS: tuple[SampleMetric, ...] = (
    PSNR,
    SSIM,
    SSIM_GAUSSIAN,
    LPIPS,
    CONSISTENCY,
    LR_PSNR,
    AUTHORS_CONSISTENCY,
    FILE_SIZE,
)
"""Of single images: the columns of `metrics.parquet`."""
FEATURE_METRICS: tuple[SetMetric, ...] = (FID, KID, PRECISION, RECALL, DENSITY, COVERAGE)
"""Of the features of all images of a method together, and of those of real images."""
SET_METRICS: tuple[Metric, ...] = (*FEATURE_METRICS, INCEPTION_SCORE, NEAR_TRAINING)
"""Of all images of a method together; no columns of the table."""
