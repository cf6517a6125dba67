"""The process that `tests.warm` asks for forks: it imports everything, and each fork becomes a program.

A fork is made by a process in between that ends at once, so that it becomes a child of the one who asked. Before it
runs its program it forks once more: that process has run nothing, and forks what the program starts.
"""

import atexit
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from tests.warm import HELPER, MESSAGE, Request, Starter, process_control, program
from tests.workers import ONE_THREAD

ALSO_IMPORTED = (
    *("anyio._backends._asyncio", "numpy.random", "pandas", "pytest", "tests.killing"),
    *("distributed.cli.dask_scheduler", "distributed.cli.dask_worker", "torch.distributed.run"),
    *("prefect.artifacts", "prefect.cli.worker", "prefect.concurrency.services", "prefect.engine"),
    *("prefect.flow_engine", "prefect.runner._workspace_supervisor", "prefect.server.api.server"),
    *("prefect.task_engine", "prefect_kubernetes"),
)
"""What programs import only when they are at work."""
HIGH = 400
"""Where open files wait until those of the program have their numbers."""
PR_SET_PDEATHSIG = 1


def _import_everything() -> None:
    from PIL import Image

    import flows
    from flows.__main__ import SETTINGS

    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    for module in pkgutil.walk_packages(flows.__path__, "flows."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)
    for name in ALSO_IMPORTED:
        importlib.import_module(name)
    Image.init()
    gc.collect()
    gc.freeze()


def _serve(channel: socket.socket) -> tuple[Request, list[int], socket.socket]:
    """Fork what is asked for until nobody asks any longer; returns in a fork, with what it is to run."""
    while True:
        data, files, _, _ = socket.recv_fds(channel, MESSAGE, 64)
        if not data:
            os._exit(0)
        told, tells = os.pipe()
        held, holds = os.pipe()
        if not (between := os.fork()):
            if not (pid := os.fork()):
                for end in (told, tells, holds):
                    os.close(end)
                os.read(held, 1)  # until it is a child of the one who asked
                os.close(held)
                return Request(**json.loads(data)), files, channel
            os.write(tells, str(pid).encode())
            os._exit(0)
        os.waitpid(between, 0)
        channel.send(os.read(told, 100))
        for end in (told, tells, held, holds, *files):
            os.close(end)


def _become(channel: socket.socket) -> tuple[Request, Starter]:
    """Serve, and return in each fork, which has a process of its own then that forks what it starts."""
    while True:
        request, files, asked = _serve(channel)
        asked.close()
        if request.session:
            os.setsid()
        elif request.group >= 0:
            os.setpgid(0, request.group)
        if not request.ignores_interrupts:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        ours, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        if os.fork():
            _is_called("python")
            channel.close()
            starter = Starter(socket.socket(fileno=_moved(ours.detach())))
            _inherit(request, files)
            starter.install()
            return request, starter
        process_control(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        _is_called(HELPER)
        ours.close()
        for file in files:
            os.close(file)


def _is_called(name: str) -> None:
    Path("/proc/self/comm").write_text(name)


def _moved(file: int) -> int:
    """The same open file under a number that no program's files have."""
    moved = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, HIGH)
    os.close(file)
    return moved


def _inherit(request: Request, files: Sequence[int]) -> None:
    """Take over what a program has of the one who starts it."""
    import numpy as np

    for file, number in zip(list(map(_moved, files)), request.files, strict=True):
        os.dup2(file, number)
        os.close(file)
    _settle(request)
    if request.is_unbuffered:
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True)  # type: ignore[union-attr]
    np.random.seed()


def _settle(request: Request) -> None:
    """Take over the folder and the environment, and what was read of that."""
    import dask
    from prefect.context import refresh_global_settings_context
    from prefect.logging.configuration import setup_logging

    from flows.__main__ import SETTINGS

    is_known = _of_prefect(os.environ) == _of_prefect(SETTINGS | request.environment)
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment | ONE_THREAD)
    tempfile.tempdir = None  # it asks the environment anew
    dask.config.refresh()
    if not is_known or program(request.arguments)[1].startswith("prefect"):
        refresh_global_settings_context()
        setup_logging()


def _of_prefect(environment: Mapping[str, str]) -> dict[str, str]:
    """Its settings, but for what it tells a single run; all forks but its own programs have those of our `main`."""
    names = [name for name in environment if name.startswith("PREFECT_") and not name.startswith("PREFECT__")]
    return {name: environment[name] for name in names}


def _engine(request: Request, starter: Starter) -> Request:
    """What Prefect's supervisor puts into its own place; a fork of this process, where this returns too, is it."""
    told, tells = os.pipe()
    if not (supervisor := os.fork()):
        process_control(PR_SET_PDEATHSIG, signal.SIGKILL)

        def execvpe(_: str, command: list[str], environment: dict[str, str]) -> None:
            os.write(tells, json.dumps((command, environment, str(Path.cwd()))).encode())
            os._exit(0)

        os.execvpe = execvpe  # type: ignore[assignment]
        return request
    os.close(tells)
    with os.fdopen(told, "rb") as pipe:
        asked = pipe.read()
    _, status = os.waitpid(supervisor, 0)
    if not asked:
        os._exit(abs(os.waitstatus_to_exitcode(status)))
    command, environment, folder = json.loads(asked)
    engine = replace(request, arguments=command[1:], environment=environment, folder=folder)
    if command[0] != sys.executable or not starter.can_be(engine):
        os.chdir(folder)
        os.execvpe(command[0], command, environment)
    _settle(engine)
    return engine


def _run(arguments: Sequence[str]) -> None:
    """Run `-m MODULE …` or `-c CODE …` as the interpreter does."""
    kind, what, *rest = program(arguments)
    main = sys.modules["__main__"]
    sys.argv = [kind, *rest]
    if kind == "-m":
        sys.path[0] = str(Path.cwd())
        is_package = hasattr(sys.modules.get(what), "__path__")
        sys.modules.pop(f"{what}.__main__" if is_package else what, None)  # it is run, and imported by nobody
        runpy._run_module_as_main(what)  # type: ignore[attr-defined]
        return
    sys.path[0] = ""
    main.__spec__ = None
    del main.__file__
    exec(what, main.__dict__)


def _run_to_the_end(arguments: Sequence[str]) -> NoReturn:
    """Run it and end as the interpreter does, which would also take apart all modules: half a second for nothing."""
    code: object = None
    try:
        _run(arguments)
    except SystemExit as end:
        code = end.code
    if code is not None and not isinstance(code, int):
        sys.stderr.write(f"{code}\n")
        code = 1
    threading._shutdown()  # type: ignore[attr-defined] # it waits for those that are no daemons
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    os._exit((code or 0) & 0xFF)


def main() -> None:
    """Serve on the channel that is named, and run in each fork what it was made for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _import_everything()
    request, starter = _become(socket.socket(fileno=int(sys.argv[1])))
    if request.is_supervisor:
        request = _engine(request, starter)
    _run_to_the_end(request.arguments)


if __name__ == "__main__":
    from tests import warm_process  # a program that runs as `__main__` has names of its own

    warm_process.main()
