"""How flows end in a deployment's run: one line in the state and in the log, tracebacks for what nobody expected."""

import logging
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prefect import State

from flows.engine.flow import as_part, flow
from flows.generate import GenerateOptions, generate
from flows.interface import outcome
from flows.interface.console import shown
from flows.interface.errors import RunError
from flows.interface.outcome import NothingToDo, one_line
from flows.train import train
from flows.training.options import TrainOptions
from flows.transform.spec import TransformSpec
from flows.upscale import UpscaleOptions, upscale
from storage.stores.location import StorageError, UnavailableError


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "3 of 9 images failed, more than --max-failed 0.1 allows; --retry-failed tries them again",
            "3 of 9 images failed, more than max_failed 0.1 allows; retry_failed tries them again",
        ),
        (
            "already contains a model; resume it with --resume, or not",
            "already contains a model; resume it with resume, or not",
        ),
        (
            "run `dtls verify x --repair`, or --repair (--lr-size)",
            "run `dtls verify x --repair`, or repair (lr_size)",
        ),
        ("a--b.png, --c.png and /--d/e: not an image\n--", "a--b.png, --c.png and /--d/e: not an image --"),
    ],
)
def test_options_are_called_as_in_the_form_and_files_stay_what_they_are(line: str, words: str) -> None:
    assert shown(line) == words


@pytest.fixture
def told(
    flow_runs: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[[], list[logging.LogRecord]]]:
    """What is logged as a warning or an error of a run that is a deployment's.

    Heartbeats go to Prefect's events from a thread of their own, which complains where it does not get through; of
    the run it says nothing.
    """
    monkeypatch.setenv("PREFECT__FLOW_RUN_ID", "any")
    yield lambda: [
        record
        for record in caplog.get_records("call")
        if record.levelno >= logging.WARNING and not record.name.startswith("prefect.events")
    ]
    for name in ("prefect.flow_runs", "prefect.task_runs", "prefect.engine"):
        logging.getLogger(name).removeFilter(outcome._is_unexpected)
    outcome._leave_out_tracebacks.cache_clear()


def lines_of(records: Iterable[logging.LogRecord]) -> list[tuple[str, str]]:
    """What of it is in the log of the flow run."""
    return [(record.levelname, record.getMessage()) for record in records if record.name == "prefect.flow_runs"]


def upscaled(source: Path, target: Path, **options: Any) -> State[str]:
    given = {"source": str(source), "target": str(target), "method": "bicubic", "scale": 2, **options}
    state: State[str] = upscale(UpscaleOptions.model_validate(given), return_state=True)
    return state


def test_too_many_failures_are_told_in_the_words_of_the_form(
    told: Callable[[], list[logging.LogRecord]], bad_images: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "text.png").write_bytes(bad_images["text.png"].read_bytes())
    state = upscaled(tmp_path / "source", tmp_path / "target")
    assert state.is_failed()
    assert state.message == "1 of 1 images failed, more than max_failed 0.1 allows; retry_failed tries them again"
    assert lines_of(told()) == [("ERROR", state.message)]


def test_a_unit_that_comes_to_nothing_has_one_line_and_an_error_nobody_expected_its_traceback(
    told: Callable[[], list[logging.LogRecord]], photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for error, message in (
        (UnavailableError("the bucket is away"), "the bucket is away; stopped, run it again to resume"),
        (KeyError("nobody"), "1 of 1 units came to nothing; run it again to resume"),
    ):
        before = len(told())

        def fail(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(TransformSpec, "work", lambda *_: fail)
        state = upscaled(photographs, tmp_path / type(error).__name__)
        assert state.message == message
        is_expected = isinstance(error, StorageError)
        records = told()[before:]
        assert any(record.exc_info for record in records) is not is_expected
        assert lines_of(records)[-1] == ("ERROR", message)
        with pytest.raises(StorageError if is_expected else RunError):
            state.result()


def test_wrong_use_that_only_a_model_tells_of_is_the_line_of_the_command(
    told: Callable[[], list[logging.LogRecord]], tmp_path: Path
) -> None:
    options = GenerateOptions(model=str(tmp_path / "nowhere"), target=str(tmp_path / "out"))
    state = generate(options, return_state=True)
    assert state.is_failed()
    assert state.message is not None
    assert state.message.startswith(f"{tmp_path}/nowhere: no such folder")
    assert lines_of(told()) == [("ERROR", state.message)]


def test_a_training_that_is_done_completes_under_another_name_with_a_warning(
    told: Callable[[], list[logging.LogRecord]], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = NothingToDo("nothing left to do; a larger --steps trains on")
    monkeypatch.setattr(train, "fn", one_line(lambda options: done))
    state = train(TrainOptions(source="a", target="b"), return_state=True)
    assert (state.is_completed(), state.name) == (True, "NothingToDo")
    assert state.message == "nothing left to do; a larger steps trains on"
    assert lines_of(told()) == [("WARNING", state.message)]
    assert state.result() == done


def test_a_part_that_fails_ends_the_run_that_called_it_with_the_same_line(
    told: Callable[[], list[logging.LogRecord]],
) -> None:
    @flow("part")
    def part(options: UpscaleOptions) -> str:
        raise StorageError(f"{options.source}: no such folder")

    @flow("whole")
    def whole(options: UpscaleOptions) -> str:
        return as_part(part, options)

    state = whole(UpscaleOptions(source="a", target="b", method="bicubic", scale=2), return_state=True)
    assert (state.is_failed(), state.message) == (True, "a: no such folder")
    assert lines_of(told()) == [("ERROR", "a: no such folder")] * 2
    assert not any(record.exc_info for record in told())
