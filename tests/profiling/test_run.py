from types import SimpleNamespace

import pytest

from admin_fairseq.profiling.run import left_as_it_was, profiling_command


@pytest.mark.parametrize(
    "argv, command",
    [
        (
            ["/opt/bin/fairseq-train", "my data", "--init-type", "adaptive", "--cpu"],
            "fairseq-train 'my data' --init-type adaptive-profiling --cpu",
        ),
        (
            ["fairseq-train", "data", "--init-type=adaptive"],
            "fairseq-train data --init-type=adaptive-profiling",
        ),
        (
            ["fairseq-hydra-train", "model.init_type=adaptive", "common.cpu=true"],
            "fairseq-hydra-train model.init_type=adaptive-profiling common.cpu=true",
        ),
        (
            ["fairseq-hydra-train", "--config-name", "adaptive"],
            "fairseq-hydra-train --config-name adaptive model.init_type=adaptive-profiling",
        ),
        (
            ["fairseq-train", "init-type=adaptive-run", "--init-type", "adaptive"],
            "fairseq-train init-type=adaptive-run --init-type adaptive-profiling",
        ),
        (
            ["fairseq-hydra-train", "model.init_type='adaptive'"],
            """fairseq-hydra-train 'model.init_type='"'"'adaptive-profiling'"'"''""",
        ),
    ],
)
def test_profiling_command(argv, command):
    assert profiling_command(argv) == command


def test_profiling_command_of_a_module():
    main = SimpleNamespace(__spec__=SimpleNamespace(name="fairseq_cli.train"))
    command = profiling_command(["/lib/fairseq_cli/train.py", "data"], main)
    assert command == "python -m fairseq_cli.train data --init-type adaptive-profiling"


def test_a_task_is_left_as_it_was():
    """Its attributes, and what its dictionaries hold, whoever else has hold of them."""
    valid = object()
    task = SimpleNamespace(datasets={"valid": valid}, epoch=None)
    datasets = task.datasets
    with left_as_it_was(task):
        task.datasets["train"] = object()
        del task.datasets["valid"]
        task.epoch, task.found = 1, True
    assert vars(task) == {"datasets": {"valid": valid}, "epoch": None}
    assert task.datasets is datasets


def test_a_task_is_left_as_it_was_after_an_error():
    task = SimpleNamespace(datasets={})
    with pytest.raises(KeyError), left_as_it_was(task):
        task.datasets["train"] = object()
        raise KeyError
    assert task.datasets == {}
