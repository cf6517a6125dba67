"""Fixtures for every test: the servers of services.py, one each a session and only when asked for, and images."""

import os
import shutil
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from tempfile import mkdtemp
from types import FrameType
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from PIL import Image, ImageOps

from tests import tiers
from tests.services import S3Server
from tests.warm import Starter
from tests.workers import OF_GROUP, SHARED, Workers, shared_s3_server

if TYPE_CHECKING:  # what takes long to import is imported by the fixtures that need it
    from tests.prefect_services import PrefectServer, PrefectWorker

ROOT = Path(__file__).parents[1]
PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "motorcycle_left.png", "retina.jpg", "rocket.jpg")

for profile, examples in {"ci": 25, "nightly": 500}.items():
    settings.register_profile(profile, max_examples=examples, deadline=None, derandomize=True, database=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def _terminated(number: int, frame: FrameType | None) -> None:
    pytest.exit(f"signal {number}", returncode=128 + number)


def pytest_configure(config: pytest.Config) -> None:
    """Keep the user's own Prefect out of the tests, and let a termination stop the servers as Ctrl-C does."""
    home = mkdtemp(prefix="dtls-prefect-home-")
    config.add_cleanup(lambda: shutil.rmtree(home, ignore_errors=True))
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        del os.environ[name]
    os.environ |= {"PREFECT_HOME": home, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    signal.signal(signal.SIGTERM, _terminated)
    config.pluginmanager.register(tiers)
    config.pluginmanager.register(Workers(config))


@pytest.fixture(scope="session")
def s3_server() -> S3Server:
    """The one server of all processes of this session, which ends with it."""
    return shared_s3_server(Path(os.environ[SHARED]))


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Set the environment as a user of the bucket does; a fresh prefix, `s3://data/<unique>`."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.delenv(name, raising=False)
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    from s3fs import S3FileSystem

    S3FileSystem.clear_instance_cache()
    yield s3_server.url(uuid.uuid4().hex)
    S3FileSystem.clear_instance_cache()


@pytest.fixture(scope="session")
def group() -> Iterator[ExitStack]:
    """What ends with the last test of the group, so that no server works on for tests that do without it."""
    with OF_GROUP:
        yield OF_GROUP


@pytest.fixture(scope="session")
def prefect_server(group: ExitStack, starter: Starter, tmp_path_factory: pytest.TempPathFactory) -> "PrefectServer":
    """Start a server that has the work pool `dtls`, and no deployments yet."""
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    from tests.prefect_services import PrefectServer, PrefectWorker

    server = group.enter_context(PrefectServer(tmp_path_factory.mktemp("prefect-server"), starter))
    for told in (EventsWorker, APILogWorker):
        group.callback(told.drain_all, timeout=10)  # what flow runs of this process have still to tell the server
    server.create_work_pool(PrefectWorker.pool)
    return server


@pytest.fixture(scope="session")
def prefect_worker(
    group: ExitStack,
    prefect_server: "PrefectServer",
    s3_server: S3Server,
    starter: Starter,
    tmp_path_factory: pytest.TempPathFactory,
) -> "PrefectWorker":
    """Start a worker whose flows run in the checkout's root and find the bucket."""
    from tests.prefect_services import PrefectWorker

    folder, keys = tmp_path_factory.mktemp("prefect-worker"), s3_server.environment()
    return group.enter_context(PrefectWorker(folder, prefect_server, cwd=ROOT, environment=keys, starter=starter))


@pytest.fixture(scope="session")
def deployed(prefect_server: "PrefectServer", prefect_worker: "PrefectWorker") -> "PrefectServer":
    """The server and its worker, with everything in prefect.yaml deployed, and one GPU."""
    prefect_server.deploy_all()
    return prefect_server


@pytest.fixture(scope="session")
def starter() -> Iterator[Starter]:
    """Start, when it is first needed, a process that has imported what programs of this project import."""
    with Starter.running() as running:
        yield running


@pytest.fixture(scope="module")
def warm(starter: Starter) -> Iterator[Starter]:
    """Let programs of this project be forks of a process that has imported what they import."""
    with starter.active():
        yield starter


@pytest.fixture
def flow_runs(prefect_server: "PrefectServer") -> Iterator[None]:
    """Let flows that are called in this process be runs of the server."""
    from prefect.settings import temporary_settings

    with temporary_settings(prefect_server.settings()):
        yield


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve real images of 64×64 in the layout of FFHQ, 00000/00000.png …; not to be changed."""
    import skimage

    root = tmp_path_factory.mktemp("photographs")
    (root / "00000").mkdir()
    for number in range(12):
        name = PHOTOGRAPHS[number % len(PHOTOGRAPHS)]
        with Image.open(Path(skimage.__file__).parent / "data" / name) as photograph:
            left = photograph.width // 2 - 128 * (number // len(PHOTOGRAPHS))  # both sides of the middle
            top = photograph.height // 2 - 64
            crop = photograph.convert("RGB").crop((left, top, left + 128, top + 128))
        crop.reduce(2).save(root / "00000" / f"{number:05}.png")
    return root


@pytest.fixture(scope="session")
def others(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images that are none of the photographs; not to be changed."""
    root = tmp_path_factory.mktemp("others")
    for path in photographs.rglob("*.png"):
        with Image.open(path) as photograph:
            ImageOps.mirror(photograph).save(root / path.name)
    return root


@pytest.fixture(scope="session")
def bad_images(photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that are no whole images, by what is wrong with them; copy them to where they should hurt."""
    root = tmp_path_factory.mktemp("bad-images")
    whole = photographs / "00000" / "00000.png"
    with Image.open(whole) as image:
        image.save(root / "truncated.jpg", quality=95)
    shutil.copy(whole, root / "truncated.png")
    for path in (root / "truncated.jpg", root / "truncated.png"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (root / "text.png").write_text("This is no image.\n")
    (root / "empty.png").touch()
    return {path.name: path for path in root.iterdir()}


@pytest.fixture(scope="session")
def process_without_holes() -> Iterator[ProcessPoolExecutor]:
    """A process whose C library gives large blocks back at once, as what it keeps of them is nobody's to claim."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("MALLOC_MMAP_THRESHOLD_", str(2**17))
            pool.submit(os.getpid).result()  # starts the process; what others start has nothing of this
        yield pool
