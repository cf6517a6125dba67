"""Tests in several processes: groups stay together, a quiet test is alone, one S3 server serves all."""

import fcntl
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.services import is_released, is_running, wait_until
from tests.workers import turn

ROOT = Path(__file__).parents[1]
CONFTEST = """
    import os, signal
    from pathlib import Path
    import pytest
    from tests.workers import SHARED, Workers, shared_s3_server

    def pytest_configure(config):
        for mark in ("integration", "quiet", "slow"):
            config.addinivalue_line("markers", mark)
        config.pluginmanager.register(Workers(config))
        signal.signal(signal.SIGTERM, lambda number, frame: pytest.exit("terminated", returncode=143))

    @pytest.fixture(scope="session")
    def prefect_server():
        pass

    @pytest.fixture(scope="session")
    def s3_server():
        return shared_s3_server(Path(os.environ[SHARED]))

    @pytest.fixture(scope="session")
    def log_file():
        with Path(__file__).with_name("log").open("a", buffering=1) as file:
            yield file

    @pytest.fixture(autouse=True)
    def log(request, log_file):
        said = lambda what: print(what, request.node.name, os.environ["PYTEST_XDIST_WORKER"], file=log_file)
        said("begin")
        yield
        said("end")
"""
MODULE = """
    import pytest, time

    @pytest.mark.parametrize("number", range({count}))
    def test_{name}(number):
        time.sleep(0.01)
"""
TWO = """
    def test_a(prefect_server):
        pass

    def test_b():
        pass
"""


def nested(folder: Path, *options: str, **modules: str) -> tuple[str, list[list[str]]]:
    """What two processes print that run these tests, and when each test began and ended, by what it is called."""
    said, _ = started(folder, *options, **modules).communicate()
    return said, log_of(folder)


def log_of(folder: Path) -> list[list[str]]:
    return [line.split() for line in (folder / "log").read_text().splitlines()]


def started(folder: Path, *options: str, **modules: str) -> subprocess.Popen[str]:
    for name, text in {"conftest": CONFTEST, **modules}.items():
        (folder / f"{name}.py").write_text(textwrap.dedent(text))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-n2", "--no-loadscope-reorder", *options, str(folder)]
    return subprocess.Popen(
        [*command, f"--rootdir={folder}", "-p", "no:cacheprovider"],
        cwd=folder,
        env=environment | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
def test_a_file_stays_together_and_so_does_what_asks_for_the_prefect_server(tmp_path: Path) -> None:
    modules = {f"test_{name}": MODULE.format(name=name, count=5) for name in "abcd"}
    for name in ("e", "f"):
        modules[f"test_{name}"] = f"def test_{name}(prefect_server): pass"
    _, log = nested(tmp_path, **modules)
    workers = {name: {line[2] for line in log if line[1].startswith(f"test_{name}")} for name in "abcdef"}
    assert all(len(found) == 1 for found in workers.values()), workers
    assert workers["e"] == workers["f"]
    assert log[0][1] in ("test_e", "test_a[0]"), "the Prefect server's group is the first to begin"


SERVER = """
    import pytest
    from tests.workers import OF_GROUP

    @pytest.fixture(scope="session")
    def prefect_server(log_file):
        OF_GROUP.callback(log_file.write, "stop server -\\n")

    def test_a(prefect_server):
        pass

    def test_b(prefect_server):
        pass

    def test_c():
        pass
"""


@pytest.mark.nightly
@pytest.mark.slow
def test_what_was_started_for_a_group_ends_with_its_last_test(tmp_path: Path) -> None:
    _, log = nested(tmp_path, "-n1", test_a=SERVER)
    assert [line[:2] for line in log] == [
        *(["begin", "test_a"], ["end", "test_a"], ["begin", "test_b"], ["end", "test_b"]),
        *(["stop", "server"], ["begin", "test_c"], ["end", "test_c"]),
    ]


@pytest.mark.nightly
@pytest.mark.slow
def test_what_asks_for_a_server_is_a_test_of_integration(tmp_path: Path) -> None:
    _, log = nested(tmp_path, "-m", "not integration", test_a=TWO)
    assert [name for what, name, _ in log if what == "begin"] == ["test_b"]


@pytest.mark.slow
def test_while_a_quiet_test_runs_no_other_does(tmp_path: Path) -> None:
    modules = {f"test_{name}": MODULE.format(name=name, count=30) for name in "abcd"}
    modules["test_0"] = """
        import pytest, time

        @pytest.mark.quiet
        @pytest.mark.xdist_group("first")
        @pytest.mark.slow
        @pytest.mark.parametrize("number", range(5))
        def test_quiet(number):
            time.sleep(0.1)
    """
    said, log = nested(tmp_path, **modules)
    assert "125 passed" in said
    for place, (what, name, worker) in enumerate(log):
        if what == "begin" and name.startswith("test_quiet"):
            assert log[place + 1] == ["end", name, worker], log[place : place + 3]
    assert len({worker for _, _, worker in log}) == 2


@pytest.mark.nightly
@pytest.mark.slow
def test_a_failed_test_is_called_what_the_command_line_calls_it(tmp_path: Path) -> None:
    modules = {"test_a": "import pytest\n@pytest.mark.parametrize('x', ['u@v'])\ndef test_bad(x): assert not x\n"}
    said, _ = nested(tmp_path, "-ra", **modules)
    assert "FAILED test_a.py::test_bad[u@v] - " in said
    assert ".venv/bin/pytest -m '' 'test_a.py::test_bad[u@v]'" in said


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.integration
def test_the_processes_share_an_s3_server_that_ends_with_them(tmp_path: Path) -> None:
    module = """
        def test_port(s3_server):
            assert s3_server.is_ready()
            print(f"port={s3_server.port}")
    """
    said, log = nested(tmp_path, "-rP", test_a=module, test_b=module)
    ports = set(map(int, re.findall(r"^port=(\d+)$", said, re.MULTILINE)))
    assert "2 passed" in said
    assert len({worker for _, _, worker in log}) == 2
    assert len(ports) == 1
    assert all(map(is_released, ports))


PATIENCE = """
    from xdist.workermanage import NodeManager
    NodeManager.EXIT_TIMEOUT = 1
"""
SLOW_SERVER = """
    import pytest, subprocess, time
    from pathlib import Path

    @pytest.fixture(scope="session")
    def server():
        with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
            Path(__file__).with_name("pid").write_text(str(process.pid))
            yield
            time.sleep(3)
            process.kill()

    def test_forever(server):
        time.sleep(600)
"""


@pytest.mark.nightly
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_stopped_stops_its_servers(number: signal.Signals, tmp_path: Path) -> None:
    with started(tmp_path, conftest=CONFTEST + PATIENCE, test_a=SLOW_SERVER) as run:
        assert wait_until((tmp_path / "pid").exists, 60)
        run.send_signal(number)
        run.communicate(timeout=60)
    assert run.returncode != 0
    assert not is_running(int((tmp_path / "pid").read_text()))


LINGERING = """
    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish():
        yield
        time.sleep(0.5)
"""


@pytest.mark.nightly
@pytest.mark.slow
def test_a_worker_that_has_told_its_end_is_not_disturbed(tmp_path: Path) -> None:
    conftest = CONFTEST + "    import time\n" + LINGERING
    with started(tmp_path, conftest=conftest, test_a=TWO, test_b=TWO) as run:
        said, _ = run.communicate(timeout=60)
    assert "4 passed" in said
    assert run.returncode == 0
    assert "terminated" not in said


def test_a_turn_is_given_back_although_a_child_was_forked(tmp_path: Path) -> None:
    with turn(tmp_path, alone=True):
        child = os.fork()
        if child == 0:
            signal.pause()
    try:
        with (tmp_path / "room").open() as room:
            fcntl.flock(room, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
