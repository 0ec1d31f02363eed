"""Where --user-dir admin_fairseq is found, and hydra's way in."""

from pathlib import Path

import pytest
import yaml

from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.config import CONFIGS as OPTIONS

from .shims import ROOT, python

USER_DIR = "from argparse import Namespace as N; from fairseq.utils import import_user_module as u;"
ARCH = "from fairseq.models import ARCH_MODEL_REGISTRY as A; print('admin_transformer' in A)"


@pytest.mark.parametrize("folder", [ROOT, Path("/")], ids=["repository", "elsewhere"])
@pytest.mark.parametrize("first", ["", "import admin_fairseq;"], ids=["once", "imported-before"])
def test_user_dir_from_any_folder(first, folder):
    program = f"{first}{USER_DIR} u(N(user_dir='admin_fairseq')); {ARCH}"
    done = python(program, folder=folder)
    assert done.stdout.strip() == "True", done.stderr


def test_registering_twice_does_no_harm():
    program = (
        "import sys, admin_fairseq;"
        "[sys.modules.pop(m) for m in list(sys.modules) if m.startswith('admin_fairseq')];"
        f"import admin_fairseq; {ARCH}"
    )
    done = python(program)
    assert done.stdout.strip() == "True", done.stderr


def test_hydra_trains_and_its_checkpoint_translates(run, data, configs, tmp_path):
    log = run(
        *["fairseq-hydra-train", "--config-dir", configs, "model=admin_transformer_tiny"],
        *["model.encoder_layers=2", "model.decoder_layers=1", "common.user_dir=admin_fairseq"],
        *["task=translation", f"task.data={data}", "task.source_lang=de", "task.target_lang=en"],
        *["criterion=label_smoothed_cross_entropy", "optimizer=radam", "lr_scheduler=linear"],
        *["optimization.lr=[1e-3]", "optimization.max_update=3", "common.cpu=true"],
        *["dataset.max_tokens=120", "dataset.num_workers=0", "dataset.disable_validation=true"],
        *["common.log_format=simple", "common.log_interval=1", f"checkpoint.save_dir={tmp_path}"],
    )
    assert "sub-layers set" in log
    checkpoint = tmp_path / "checkpoint_last.pt"
    output = run.generate(data, checkpoint, "--user-dir", "admin_fairseq")
    assert len(output.hypotheses()) == 10


def test_hydra_refuses_a_contradiction_in_one_line(run, data, configs, tmp_path):
    failed = run(
        *["fairseq-hydra-train", "--config-dir", configs, "model=preln_transformer_tiny"],
        *["model.init_type=adaptive", "common.user_dir=admin_fairseq", "task=translation"],
        *[f"task.data={data}", "criterion=cross_entropy", "optimizer=adam", "common.cpu=true"],
        *["dataset.max_tokens=120", f"checkpoint.save_dir={tmp_path}"],
        status=1,
    )
    line = failed.errors.strip().splitlines()[-1]  # above it, hydra warns of its own future
    assert line.startswith("admin-fairseq: error: ") and "--init-type adaptive" in line
    assert "Traceback" not in failed.errors


def test_every_architecture_has_its_hydra_file(configs):
    files = {path.stem: yaml.safe_load(path.read_text()) for path in configs.glob("model/*.yaml")}
    assert set(files) == set(ARCHITECTURES)
    for name, options in files.items():
        assert options["_name"] == name
        known = OPTIONS[ARCHITECTURES[name].model].__dataclass_fields__
        assert set(options) <= set(known)
