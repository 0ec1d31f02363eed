"""What is checked when a run builds its model."""

import pytest
from omegaconf import OmegaConf

from admin_fairseq.config import AdminTransformerConfig, resolve
from admin_fairseq.errors import AdminError
from admin_fairseq.models.building import _check_precision


@pytest.mark.parametrize("other", ["fp16", "bf16", "amp"])
def test_one_precision_at_a_time(other):
    config = resolve(AdminTransformerConfig(autocast="bfloat16"))
    run = OmegaConf.create({"common": {"fp16": False, "bf16": False, "amp": False}})
    _check_precision(config, run)
    _check_precision(config, None)
    run.common[other] = True
    with pytest.raises(AdminError, match=f"--autocast bfloat16 .* --{other} "):
        _check_precision(config, run)
    _check_precision(resolve(AdminTransformerConfig()), run)
