import os
import sys
from types import SimpleNamespace

import pytest
import torch
from fairseq.trainer import Trainer
from omegaconf import OmegaConf

from admin_fairseq.errors import AdminError
from admin_fairseq.starting import (
    _careful,
    check_run,
    command_line,
    on_cpu,
    restores_weights,
)


@pytest.fixture
def cfg(tmp_path):
    return OmegaConf.create(
        {
            "save_dir": str(tmp_path),
            "restore_file": "checkpoint_last.pt",
            "checkpoint_suffix": "",
            "finetune_from_model": None,
        }
    )


@pytest.fixture
def loaded(cfg):
    """Which file fairseq's ``load_checkpoint`` is told to restore."""
    return lambda: _careful(lambda cfg, trainer: cfg.restore_file)(cfg, trainer_after(0))


def trainer_after(updates, most=0):
    options = OmegaConf.create({"optimization": {"max_update": most}})
    return SimpleNamespace(get_num_updates=lambda: updates, cfg=options)


def test_a_complete_run_is_left_as_it_is(cfg, caplog):
    """fairseq makes one more update whenever it is started, and writes its checkpoints again."""
    load = _careful(lambda cfg, trainer: "loaded")
    for made, most in ((9, 10), (10, 0), (0, 10)):
        assert load(cfg, trainer_after(made, most)) == "loaded"
    for made in (10, 11):
        with caplog.at_level("INFO"), pytest.raises(SystemExit) as end:
            load(cfg, trainer_after(made, 10))
        assert end.value.code == 0
        assert f"training is complete: {made} updates are done, --max-update is 10" in caplog.text


def test_a_fresh_run_restores_nothing(cfg, loaded):
    assert not restores_weights(cfg)
    assert loaded() == "checkpoint_last.pt"


def test_a_folder_that_is_not_there_yet_holds_nothing(cfg, tmp_path):
    cfg.save_dir = str(tmp_path / "new")
    assert not restores_weights(cfg)


def test_a_last_checkpoint_is_restored(cfg, tmp_path):
    (tmp_path / "checkpoint_last.pt").touch()
    assert restores_weights(cfg)
    cfg.checkpoint_suffix = "-part-0"
    assert not restores_weights(cfg)
    (tmp_path / "checkpoint_last-part-0.pt").touch()
    assert restores_weights(cfg)


def test_a_run_without_last_checkpoints_does_not_go_on_from_others(cfg, loaded, tmp_path):
    (tmp_path / "checkpoint1.pt").touch()
    assert restores_weights(cfg)
    cfg.no_last_checkpoints = True
    assert not restores_weights(cfg) and loaded() == "checkpoint_last.pt"


def test_a_named_file_is_restored(cfg, tmp_path):
    cfg.restore_file = str(tmp_path / "other.pt")
    (tmp_path / "other.pt").touch()
    assert restores_weights(cfg)


def test_a_file_of_each_worker_is_restored(cfg, loaded, tmp_path):
    cfg.restore_file = str(tmp_path / "other.pt")
    (tmp_path / "other-shard0.pt").touch()
    assert restores_weights(cfg)
    cfg.restore_file = "checkpoint_last.pt"
    (tmp_path / "checkpoint1.pt").touch()
    (tmp_path / "checkpoint_last-shard0.pt").touch()
    assert restores_weights(cfg) and loaded() == "checkpoint_last.pt"


def test_naming_the_last_checkpoint_is_as_naming_none(cfg, tmp_path):
    """Scripts do it from their first start on."""
    cfg.restore_file = str(tmp_path / "." / "checkpoint_last.pt")
    assert not restores_weights(cfg)
    (tmp_path / "checkpoint_last.pt").touch()
    assert restores_weights(cfg)


@pytest.mark.parametrize("option", ["restore_file", "finetune_from_model", "continue_once"])
def test_what_is_to_be_restored_must_be_there(option, cfg, loaded):
    """fairseq goes on without it, and overwrites what is in the folder."""
    cfg[option] = "nowhere.pt"
    name = option.replace("_", "-")
    for ask in (lambda: restores_weights(cfg), loaded):
        with pytest.raises(AdminError, match=rf"nowhere\.pt: no such file, .* --{name}$"):
            ask()


@pytest.mark.parametrize("kind", ["folder", "fifo", "link"])
def test_what_lies_under_the_name_of_the_last_checkpoint_must_be_one(kind, cfg, loaded, tmp_path):
    last = tmp_path / "checkpoint_last.pt"
    make = {"folder": os.mkdir, "fifo": os.mkfifo, "link": lambda last: os.symlink("x", last)}
    make[kind](last)
    with pytest.raises(
        AdminError, match=r"checkpoint_last\.pt: not a regular file, .*choose another --save-dir"
    ):
        loaded()


def test_the_last_checkpoint_goes_before_the_one_to_fine_tune(cfg, tmp_path):
    cfg.finetune_from_model = "nowhere.pt"
    (tmp_path / "checkpoint_last.pt").touch()
    assert restores_weights(cfg)


@pytest.mark.parametrize(
    "names, newest",
    [
        (["checkpoint_1_3.pt"], "checkpoint_1_3.pt"),
        (["checkpoint_1_9.pt", "checkpoint_1_12.pt"], "checkpoint_1_12.pt"),
        (["checkpoint9.pt", "checkpoint10.pt", "checkpoint_10_99.pt"], "checkpoint10.pt"),
        (["checkpoint2.pt", "checkpoint_3_40.pt", "checkpoint_best.pt"], "checkpoint_3_40.pt"),
        (["checkpoint_best.pt"], "checkpoint_best.pt"),
        (["checkpoint.best_loss_2.3451.pt"], "checkpoint.best_loss_2.3451.pt"),
        (["checkpoint_avg.pt", "mine.pt", "checkpoint1.pt.tmp"], None),
        (["checkpoint_1_3-shard0.pt", "checkpoint.best_loss_2.3451-shard0.pt"], None),
    ],
)
def test_killed_before_there_was_a_last_checkpoint(names, newest, cfg, loaded, tmp_path):
    for name in names:
        (tmp_path / name).touch()
    assert restores_weights(cfg) == (newest is not None)
    assert loaded() == (str(tmp_path / newest) if newest else "checkpoint_last.pt")
    cfg.finetune_from_model = str(tmp_path / names[0])
    assert loaded() == "checkpoint_last.pt"  # the others may be of the run that it is from


@pytest.mark.parametrize("option", ["finetune_from_model", "continue_once"])
def test_killed_after_it_began_from_another_run(option, cfg, tmp_path):
    """It does not begin again, which would overwrite its checkpoints."""
    save_dir, other = tmp_path / "new", tmp_path / "checkpoint_best.pt"
    other.touch()
    save_dir.mkdir()
    cfg[option], cfg.save_dir = str(other), str(save_dir)
    told = []
    load = _careful(lambda cfg, trainer: told.append((cfg.restore_file, cfg.finetune_from_model)))
    for name in ("unrelated.pt", "checkpoint2.pt"):
        (save_dir / name).touch()
        load(cfg, trainer_after(0))
        assert restores_weights(cfg)
    assert told == [
        ("checkpoint_last.pt", cfg.finetune_from_model),
        (f"{save_dir}/checkpoint2.pt", None),
    ]


@pytest.mark.parametrize("folder", ["real", "link"])
@pytest.mark.parametrize("other", ["real", "link", "real/../link/."])
def test_a_checkpoint_of_the_same_folder_is_asked_for(folder, other, cfg, loaded, tmp_path):
    """However the folder is spelled."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for name in ("checkpoint3.pt", "checkpoint5.pt"):
        (tmp_path / "real" / name).touch()
    cfg.save_dir = str(tmp_path / folder)
    cfg.finetune_from_model = str(tmp_path / other / "checkpoint3.pt")
    assert restores_weights(cfg) and loaded() == "checkpoint_last.pt"


def test_to_continue_once_goes_before_fine_tuning(cfg):
    """As in fairseq."""
    cfg.continue_once, cfg.finetune_from_model = "once.pt", "tune.pt"
    with pytest.raises(AdminError, match=r"once\.pt: no such file, .* --continue-once$"):
        restores_weights(cfg)


def test_two_checkpoints_to_start_from_are_refused(cfg, loaded):
    cfg.restore_file, cfg.finetune_from_model = "one.pt", "other.pt"
    with pytest.raises(AdminError, match="finetune-from-model and --restore-file: leave one"):
        loaded()


def test_a_model_that_was_fine_tuned_is_built_from_its_own_checkpoint(cfg, tmp_path):
    """Its options have both: ``repairs.reading`` sets --restore-file for those who read it."""
    cfg.finetune_from_model, cfg.restore_file = "gone.pt", str(tmp_path / "mine.pt")
    (tmp_path / "mine.pt").touch()
    assert restores_weights(cfg)


def test_without_last_checkpoints_fine_tuning_begins_again(cfg, loaded, tmp_path):
    other = tmp_path / "other" / "best.pt"
    other.parent.mkdir()
    other.touch()
    (tmp_path / "checkpoint1.pt").touch()
    cfg.finetune_from_model, cfg.no_last_checkpoints = str(other), True
    assert loaded() == "checkpoint_last.pt" and restores_weights(cfg)


def test_with_restore_file_a_run_is_not_continued_once(cfg, tmp_path):
    """fairseq ignores --continue-once, so that the weights are new: Admin has to measure ω."""
    (tmp_path / "other.pt").touch()
    cfg.continue_once = str(tmp_path / "other.pt")
    assert restores_weights(cfg)
    cfg.restore_file = str(tmp_path / "checkpoint_last.pt")
    assert not restores_weights(cfg)


def test_killed_before_there_was_a_last_checkpoint_with_a_suffix(cfg, loaded, tmp_path):
    cfg.checkpoint_suffix = "-part-0"
    (tmp_path / "checkpoint2.pt").touch()
    assert loaded() == "checkpoint_last.pt"
    (tmp_path / "checkpoint1-part-0.pt").touch()
    assert loaded() == str(tmp_path / "checkpoint1.pt")  # to which fairseq adds the suffix


@pytest.fixture
def damaged(cfg, tmp_path):
    """``load_checkpoint`` that finds checkpoint_last.pt damaged."""
    (tmp_path / "checkpoint_last.pt").write_bytes(b"")

    def load(cfg, trainer):
        raise AdminError("damaged")

    return lambda: _careful(load)(cfg, None)


@pytest.mark.parametrize(
    "argv, command",
    [
        (["fairseq-train", "my data"], "fairseq-train 'my data' --restore-file "),
        (["fairseq-hydra-train", "a=1"], "fairseq-hydra-train a=1 checkpoint.restore_file="),
    ],
)
def test_damage_names_the_newest_whole_checkpoint(argv, command, damaged, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", argv)
    torch.save({"model": {"w": torch.ones(9)}}, tmp_path / "checkpoint2.pt")
    content = (tmp_path / "checkpoint2.pt").read_bytes()
    (tmp_path / "checkpoint_3_50.pt").write_bytes(content[:-10])
    (tmp_path / "checkpoint1.pt").write_bytes(content)
    with pytest.raises(AdminError) as error:
        damaged()
    way_out = f"{command}{tmp_path}/checkpoint2.pt"
    assert error.value.message == f"damaged; continue from the newest undamaged one with: {way_out}"


def test_damage_where_nothing_is_whole(damaged, tmp_path):
    (tmp_path / "checkpoint1.pt").write_bytes(b"")
    with pytest.raises(AdminError) as error:
        damaged()
    assert error.value.message == "damaged"


def test_errors_of_a_whole_checkpoint_stay_as_they_are(damaged, tmp_path):
    torch.save({"model": {}}, tmp_path / "checkpoint_last.pt")
    torch.save({"model": {}}, tmp_path / "checkpoint1.pt")
    with pytest.raises(AdminError) as error:
        damaged()
    assert error.value.message == "damaged"


def test_command_line():
    assert command_line(["/opt/bin/fairseq-train", "my data"]) == "fairseq-train 'my data'"
    main = SimpleNamespace(__spec__=SimpleNamespace(name="fairseq_cli.train"))
    words = ["/lib/fairseq_cli/train.py", "data"]
    assert command_line(words, main) == "python -m fairseq_cli.train data"


@pytest.fixture
def run(monkeypatch):
    """A training run of ours on the CPU, and the command that asks for it."""
    monkeypatch.setattr(sys, "argv", ["fairseq-train", "data", "--lr", "0.25"])
    common = {"fp16": False, "memory_efficient_fp16": False, "cpu": True}
    run = {"common": common, "optimization": {"lr": [0.25]}}
    return OmegaConf.create({**run, "model": {"_name": "admin_transformer_tiny"}})


def test_a_rate_that_is_asked_for_is_taken(run, monkeypatch):
    check_run(run)
    for word in ("--lr=0.25", "optimization.lr=[0.25]", "+optimization.lr=[0.25]"):
        monkeypatch.setattr(sys, "argv", ["fairseq-train", word])
        check_run(run)
    monkeypatch.setattr(sys, "argv", ["fairseq-train", "--lr-scheduler", "fixed"])
    with pytest.raises(AdminError, match=r"--lr .* is missing, and fairseq's default is 0\.25"):
        check_run(run)
    run.optimization.lr = [1e-3]
    check_run(run)


@pytest.mark.parametrize("option", ["fp16", "memory_efficient_fp16"])
def test_half_precision_wants_a_gpu(option, run, monkeypatch):
    run.common[option] = True
    with pytest.raises(
        AdminError, match="--fp16 needs a GPU, and --cpu is given; to train on the CPU: "
    ):
        check_run(run)
    run.common.cpu = False
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AdminError, match="--fp16 needs a GPU, and torch finds none; "):
        check_run(run)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_run(run)


def test_reference_kernels_are_not_compiled(run):
    run.model.update(compile=True, reference_kernels=False)
    check_run(run)
    run.model.reference_kernels = True
    with pytest.raises(AdminError, match="--compile compiles no --reference-kernels"):
        check_run(run)


def test_runs_of_other_models_are_theirs(run):
    run.common.fp16, run.model._name = True, "transformer"
    check_run(run)
    run.model = None  # as where a checkpoint is evaluated
    check_run(run)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("fairseq-train data --fp16 --lr 1", "fairseq-train data --lr 1 --cpu"),
        ("fairseq-train --memory-efficient-fp16 --cpu", "fairseq-train --cpu"),
        ("fairseq-train --fp16-scale-window 256", "fairseq-train --fp16-scale-window 256 --cpu"),
        (
            "fairseq-hydra-train common.fp16=true a=1",
            "fairseq-hydra-train a=1 common.fp16=false common.cpu=true",
        ),
    ],
)
def test_the_command_for_the_cpu(given, expected):
    assert on_cpu(given.split()) == expected.split()


def test_a_trainer_checks_too(run):
    """Under hydra, a run that goes on from a checkpoint comes to no other check."""
    run.common.fp16 = True
    with pytest.raises(AdminError, match="--fp16 needs a GPU"):
        Trainer(run, None, None, None)
