"""What a process shows of an AdminError that nobody catches, and that anybody may catch it."""

import signal

import pytest
from hydra.core.utils import JobReturn, JobStatus

from admin_fairseq.errors import AdminError
from admin_fairseq.repairs import uncaught

from ..integration.shims import python

NOTEBOOK = """
import sys
from fairseq import checkpoint_utils
from fairseq.data import Dictionary
from fairseq.models import build_model
from types import SimpleNamespace
hook = sys.excepthook
import admin_fairseq
from admin_fairseq.checkpoints.storage import read_checkpoint
from admin_fairseq.config import AdminTransformerConfig

path = sys.argv[1]
task = SimpleNamespace(source_dictionary=Dictionary(), target_dictionary=Dictionary())
model = AdminTransformerConfig(_name="preln_transformer_tiny", init_type="adaptive")
for attempt in (
    lambda: read_checkpoint(path),
    lambda: checkpoint_utils.load_model_ensemble_and_task([path]),
    lambda: build_model(model, task),
):
    try:
        attempt()
    except Exception as error:
        print(f"{type(error).__name__}: {error}")
assert sys.excepthook is hook
print("goes on")
"""
COMMAND = "import sys, fairseq_cli, admin_fairseq; from admin_fairseq.errors import AdminError; "


@pytest.fixture
def broken(tmp_path):
    path = tmp_path / "broken.pt"
    path.write_bytes(b"PK\x03\x04 and no more")
    return path


def test_a_notebook_goes_on_after_what_it_catches(broken):
    """Its program is not one of fairseq's commands."""
    done = python(NOTEBOOK, broken)
    assert done.returncode == 0, done.stderr
    of_ours, of_fairseqs, built, end = done.stdout.splitlines()
    assert of_ours == of_fairseqs and of_ours.startswith(f"AdminError: {broken}: ")
    assert built.startswith("AdminError: --arch preln_transformer_tiny stands for Pre-LN")
    assert end == "goes on"


def test_a_script_that_catches_nothing_has_a_traceback(broken):
    script = "import sys; from admin_fairseq.checkpoints.storage import read_checkpoint as read; "
    failed = python(script + "read(sys.argv[1])", broken)
    assert failed.returncode == 1
    assert "Traceback" in failed.stderr and f"AdminError: {broken}: " in failed.stderr


def test_in_a_command_it_is_one_line():
    failed = python(COMMAND + "raise AdminError('in.pt: damaged')")
    assert failed.returncode == 1
    assert failed.stderr == "admin-fairseq: error: in.pt: damaged\n"


def test_ctrl_c_in_a_command_is_one_line():
    # nohup and shells' background jobs ignore the signal
    handled = "import os, signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    stopped = python(COMMAND + handled + "os.kill(os.getpid(), signal.SIGINT)")
    assert stopped.returncode == -signal.SIGINT  # which shells show as 130
    assert stopped.stderr == "interrupted\n"


def test_other_errors_of_a_command_stay():
    failed = python(COMMAND + "raise ValueError('a fault of the program')")
    assert failed.returncode == 1
    assert "Traceback" in failed.stderr and "a fault of the program" in failed.stderr


class Job(JobReturn):
    return_value = uncaught.ending_in_one_line(JobReturn.return_value)


def test_a_job_of_hydra_ends_in_one_line():
    with pytest.raises(SystemExit, match=r"^admin-fairseq: error: in\.pt: damaged$"):
        Job().return_value = AdminError("in.pt: damaged")


def test_a_job_of_hydra_keeps_anything_else():
    job = Job()
    job.return_value, job.status = 1.5, JobStatus.COMPLETED
    assert job.return_value == 1.5
    job.return_value, job.status = ValueError("a fault of the program"), JobStatus.FAILED
    with pytest.raises(ValueError, match="a fault of the program"):
        _ = job.return_value
