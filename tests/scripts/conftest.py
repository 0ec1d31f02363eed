"""The scripts as a user starts them: from another folder, into folders with a space in the name."""

import os
import subprocess

import pytest

from ..integration.shims import BIN, ROOT, Shims, one_thread


@pytest.fixture(scope="session")
def start(tmp_path_factory):
    """start(script, *words, cwd=...): a process; what it calls runs in warm processes, if not
    ``cold``."""
    environment = {**one_thread(), "NO_INSTALL": "1"}  # what runs the tests runs the scripts too
    environment["PATH"] = os.pathsep.join((str(BIN), environment["PATH"]))
    shims = Shims(tmp_path_factory.mktemp("bin"), environment)

    def start(script, *words, cwd, cold=False):
        return subprocess.Popen(
            ["bash", str(ROOT / "scripts" / script), *map(str, words)],
            cwd=cwd,
            env=environment if cold else shims.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def finish(process, status=0):
    """Wait for a script, check its exit status, return standard output and standard error."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == status, f"{output[-3000:]}\n{errors[-3000:]}"
    return output, errors
