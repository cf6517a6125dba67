"""Options of the flows that work in units: where units run, and what becomes of failed samples."""

from typing import Literal, Self

from pydantic import Field, model_validator

from flows.interface.options import CORES, RESULTS, RUNNING, Options


class BatchOptions(Options):
    """Options of the flows that work in units."""

    panel = RUNNING

    workers: int = Field(
        CORES, ge=1, le=256, description="threads that read, decode and write the images of one unit, like 8"
    )
    in_flight: int = Field(2, ge=1, le=64, description="units that one machine works on at the same time, like 4")
    runner: Literal["threads", "processes", "dask"] = Field(
        "threads",
        description="where units run: in threads, in processes (one for each GPU), or on the workers of a Dask "
        "--scheduler",
    )
    scheduler: str | None = Field(
        None,
        pattern=r"^(tcp|tls)://[^\s@]+$",
        description="address of a Dask scheduler, tcp://HOST:8786; by default the environment's DTLS_SCHEDULER, "
        "which alone counts in a deployment's run",
    )
    sync: bool = Field(
        True,
        description="have results on the disk before they count as done; --no-sync, for scratch, leaves that to the "
        "system: faster, and files may be empty when the machine goes down",
    )
    image_timeout: float = Field(
        1800.0,
        ge=0,
        description="seconds that each of reading, decoding, computing and encoding may take for one image, like 60; "
        "an image that takes longer fails (0: no limit)",
    )
    retry_failed: bool = Field(False, description="process the samples that failed in earlier runs again")
    max_failed: float = Field(
        0.1, ge=0, le=1, description="largest share of failed samples with which the run still succeeds, like 0.01"
    )

    @model_validator(mode="after")
    def _a_scheduler_is_for_dask(self) -> Self:
        if self.runner != "dask" and self.scheduler is not None:
            raise ValueError("--scheduler ADDRESS is for --runner dask")
        return self


class MakingOptions(BatchOptions):
    """Options of the flows whose results take long to make."""

    panel = RESULTS

    overwrite: bool = Field(
        False, description="replace results in the target that were made with other options; without it the run stops"
    )
