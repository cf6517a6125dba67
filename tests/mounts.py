"""Mounts that only one command of a test sees."""

import shutil
import subprocess

import pytest


def private_mounts() -> list[str]:
    """The command that gives another command mounts of its own; skips where this machine lets nobody."""
    for command in (["unshare", "-m"], ["unshare", "-rm"]):
        mount = [*command, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if shutil.which("unshare") and subprocess.run(mount, capture_output=True).returncode == 0:
            return command
    pytest.skip("needs `unshare -m` and a tmpfs: root, or user namespaces")
