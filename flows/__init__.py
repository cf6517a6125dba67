"""The deployments and the command line: thin flows over the other rooms."""

import os

# OpenMP's threads spin while they wait. Where reading and decoding want the same cores, that made a training step
# 5 to 50 times slower on 2 cores; a short spin costs nothing. It counts only if set before torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
