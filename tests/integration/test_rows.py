"""A row of the published tables, cut down to the CPU, with the real command."""

import os
import re

from .shims import ROOT


def test_a_row_trains_and_resumes(run, data, tmp_path):
    """That it has four GPUs is overridden; that ``data`` is relative shows that hydra stays."""

    def train(updates):
        return run(
            *["fairseq-hydra-train", "--config-dir", ROOT / "configs" / "wmt14_en_de"],
            *["--config-name", "admin_18l_18l", "task.data=" + os.path.relpath(data, run.folder)],
            *["model.encoder_layers=2", "model.decoder_layers=1", "model.encoder_embed_dim=16"],
            *["model.encoder_attention_heads=2", "distributed_training.distributed_world_size=1"],
            *["common.cpu=true", "common.fp16=false", "common.log_interval=1"],
            *["dataset.max_tokens=120", "dataset.num_workers=0", "dataset.disable_validation=true"],
            *[f"optimization.max_update={updates}", f"checkpoint.save_dir={tmp_path}"],
        )

    def done(log):
        return re.findall(r"num_updates=(\d+)", log)

    first = train(2)
    assert "sub-layers set" in first and done(first) == ["1", "2"]
    second = train(4)
    assert "sub-layers set" not in second and done(second) == ["3", "4"]
