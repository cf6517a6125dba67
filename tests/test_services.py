"""The servers that the other tests rely on are real: they refuse, keep, list, run and fail as in production."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import botocore.exceptions
import pytest
import s3fs
from PIL import Image

from tests.prefect_services import PrefectServer, PrefectWorker
from tests.services import S3Server, descendants, free_ports, is_released, wait_until

pytestmark = pytest.mark.integration

FLOW = """
    import os
    import subprocess
    import sys
    from prefect import flow

    @flow(name="probe")
    def wait_for(child: list[str]) -> None:
        process = subprocess.Popen([sys.executable, *child])
        try:
            process.wait()
        finally:
            process.wait()

    @flow(name="probe")
    def probe(answer: int) -> str:
        print("the answer is", answer)
        if answer != 42:
            raise ValueError(f"not {answer}")
        return os.environ["AWS_ENDPOINT_URL"]
"""
PREFECT_YAML = """
    name: probe
    pull:
      - prefect.deployments.steps.set_working_directory:
          directory: {folder}
    deployments:
      - name: probe
        entrypoint: probe.py:probe
        work_pool: {{name: dtls}}
      - name: wait_for
        entrypoint: probe.py:wait_for
        work_pool: {{name: dtls}}
"""
CHILD = """
    import pathlib, signal, sys, time

    def finish(number, frame):
        time.sleep(1)
        pathlib.Path(sys.argv[1], "saved").touch()
        sys.exit(128 + number)

    signal.signal(signal.SIGTERM, finish)
    pathlib.Path(sys.argv[1], "started").touch()
    signal.pause()
"""


def test_s3_refuses_a_wrong_secret(s3_server: S3Server) -> None:
    for call in ("list_objects_v2", "head_bucket"):
        with pytest.raises(botocore.exceptions.ClientError, match=r"SignatureDoesNotMatch|403"):
            getattr(s3_server.client(secret_key="wrong"), call)(Bucket=s3_server.bucket)


def test_s3_keeps_what_was_put_with_nothing_but_the_environment(s3: str, s3_server: S3Server) -> None:
    content = os.urandom(9 << 20)  # more than one part
    s3fs.S3FileSystem().pipe_file(f"{s3}/large", content)
    key = f"{s3}/large".removeprefix(s3_server.url())
    assert s3_server.client().get_object(Bucket=s3_server.bucket, Key=key)["Body"].read() == content


def test_s3_lists_more_keys_than_fit_one_answer(s3: str) -> None:
    names = [f"{number:05}" for number in range(1_050)]
    filesystem = s3fs.S3FileSystem()
    filesystem.pipe({f"{s3}/{name}": b"" for name in names})
    filesystem.invalidate_cache()
    assert [path.rpartition("/")[2] for path in filesystem.find(s3)] == names


def test_s3_is_gone_after_its_block_even_when_that_raises(tmp_path: Path) -> None:
    server = S3Server(tmp_path)
    with pytest.raises(RuntimeError, match="the test's own"), server:
        raise RuntimeError("the test's own" if not is_released(server.port) else "nobody listens")
    assert is_released(server.port)
    assert server.process is None


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    class Broken(S3Server):
        def command(self) -> list[str]:
            return [sys.executable, "-c", "raise SystemExit('the disk is full')"]

    with pytest.raises(RuntimeError, match="ended with code 1:\nthe disk is full"), Broken(tmp_path):
        pass


def test_children_of_children_are_found() -> None:
    parent = subprocess.Popen(["/bin/sh", "-c", "sleep 60 & echo started; wait"], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()
    started = descendants(parent.pid)
    for pid in (parent.pid, *started):
        os.kill(pid, 9)
    parent.wait()
    parent.stdout.close()
    assert len(started) == 1


def test_ports_come_free_and_in_a_row() -> None:
    first = free_ports(5, also_at=10_000)
    assert all(is_released(port) and is_released(port + 10_000) for port in range(first, first + 5))


@pytest.fixture(scope="module")
def deployed(
    prefect_server: PrefectServer, prefect_worker: PrefectWorker, tmp_path_factory: pytest.TempPathFactory
) -> PrefectServer:
    """Give a server with a worker and the deployments probe/probe and probe/wait_for."""
    folder = tmp_path_factory.mktemp("probe")
    (folder / "probe.py").write_text(textwrap.dedent(FLOW))
    (folder / "prefect.yaml").write_text(textwrap.dedent(PREFECT_YAML).format(folder=folder))
    done = prefect_server.cli("deploy", "--all", cwd=folder)
    assert done.returncode == 0, done.stdout
    return prefect_server


@pytest.mark.slow
@pytest.mark.nightly
def test_prefect_runs_a_deployment_in_the_workers_process(deployed: PrefectServer) -> None:
    good = deployed.run_deployment("probe/probe", {"answer": 42}, timeout=120)
    assert (good.exit_code, good.state) == (0, "COMPLETED"), good.report

    bad = deployed.run_deployment("probe/probe", {"answer": 41}, timeout=120)
    assert (bad.exit_code, bad.state) == (1, "FAILED"), bad.report
    assert "ValueError: not 41" in bad.logs


@pytest.mark.slow
@pytest.mark.nightly
def test_cancelling_a_run_lets_its_child_finish(deployed: PrefectServer, tmp_path: Path) -> None:
    child = ["-c", textwrap.dedent(CHILD), str(tmp_path)]
    flow_run_id = deployed.start_deployment("probe/wait_for", {"child": child})
    assert wait_until((tmp_path / "started").exists, 60), deployed.flow_run_logs(flow_run_id)
    deployed.cancel(flow_run_id)
    assert deployed.wait_for_final_state(flow_run_id) == "CANCELLED", deployed.flow_run_logs(flow_run_id)
    assert (tmp_path / "saved").exists()


@pytest.mark.slow
def test_flows_run_in_this_process(flow_runs: None) -> None:
    from prefect import flow

    @flow(name="inline")
    def inline(answer: int) -> int:
        return answer

    assert inline(42) == 42


def test_images_are_small_and_the_bad_ones_bad(photographs: Path, bad_images: dict[str, Path]) -> None:
    images = sorted(photographs.rglob("*.png"))
    assert [path.relative_to(photographs).as_posix() for path in images][-1] == "00000/00011.png"
    for path in images:
        with Image.open(path) as image:
            assert (image.mode, image.size) == ("RGB", (64, 64))
            assert len(set(image.convert("L").tobytes())) > 30, "a flat image tests nothing"
    for path in bad_images.values():
        with pytest.raises(OSError), Image.open(path) as image:  # noqa: PT011 - each kind has words of its own
            image.load()
