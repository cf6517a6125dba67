"""Several training processes, started by torchrun.

`python -m flows.training.launch --nproc-per-node=2 -m flows.training.process SETTINGS.json` is torchrun
without its tracebacks: the training processes have printed already what went wrong.
"""

import logging
import sys

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun

from flows.training.events import Failed, line_of
from flows.training.settings import STOPPED


def main() -> int:
    """Run torchrun with this program's arguments; 1 where a process failed, as when stopped otherwise."""
    logging.disable(logging.CRITICAL)
    try:
        torchrun(sys.argv[1:])
    except SignalException:
        return STOPPED
    except ChildFailedError:
        return 1
    except (RuntimeError, OSError, ValueError) as error:  # machines that do not find each other
        sys.stdout.write(line_of(Failed(f"torchrun: {str(error).splitlines()[0]}")))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
