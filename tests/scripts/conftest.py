"""The scripts as a user starts them: from another folder, into folders with a space in the name."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def start(script, *words, cwd, before=()):
    """Start a script; folders ``before`` come first on PATH."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}
    # what runs the tests runs the scripts too
    environment["NO_INSTALL"] = "1"
    folders = [*before, Path(sys.executable).parent, environment["PATH"]]
    environment["PATH"] = os.pathsep.join(map(str, folders))
    return subprocess.Popen(
        ["bash", str(ROOT / "scripts" / script), *map(str, words)],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, status=0):
    """Wait for a script, check its exit status, return standard output and standard error."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == status, f"{output[-3000:]}\n{errors[-3000:]}"
    return output, errors
