import pytest
from omegaconf import OmegaConf

from admin_fairseq.checkpoints.loading import restores_weights


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


def test_a_fresh_run_restores_nothing(cfg):
    assert not restores_weights(cfg)


def test_a_last_checkpoint_is_restored(cfg, tmp_path):
    (tmp_path / "checkpoint_last.pt").touch()
    assert restores_weights(cfg)
    cfg.checkpoint_suffix = "-shard0"
    assert not restores_weights(cfg)


def test_a_named_file_is_restored_if_it_is_there(cfg, tmp_path):
    (tmp_path / "checkpoint_last.pt").touch()
    cfg.restore_file = str(tmp_path / "other.pt")
    assert not restores_weights(cfg)  # fairseq starts afresh then
    (tmp_path / "other.pt").touch()
    assert restores_weights(cfg)


def test_fine_tuning_restores(cfg):
    cfg.finetune_from_model = "elsewhere.pt"
    assert restores_weights(cfg)
