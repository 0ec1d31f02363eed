import pytest
import torch

from admin_fairseq.benchmarks import sides
from admin_fairseq.benchmarks.options import Workload
from admin_fairseq.errors import AdminError


def workload(**changed):
    return Workload(**{"arch": "admin_transformer_tiny", "cpu": True, **changed})


def test_own_words_reach_one_side_alone():
    ours = sides.ours(workload(), words=["--optimizer", "radam"]).run
    stock = sides.stock(workload(), words=["--clip-norm", "5"]).run
    assert (ours.optimizer._name, ours.optimization.clip_norm) == ("radam", 0)
    assert (stock.optimizer._name, stock.optimization.clip_norm) == ("adam", 5)


def test_words_for_both_reach_stock_too():
    both = workload(words=("--dropout", "0.25", "--encoder-embed-dim", "32"))
    ours, stock = sides.ours(both).run.model, sides.stock(both).run.model
    assert (ours.dropout, stock.dropout) == (0.25, 0.25)
    assert (ours.encoder_embed_dim, stock.encoder_embed_dim) == (32, 32)
    assert stock.activation_fn == ours.activation_fn == "relu"


def test_stock_takes_norms_from_our_scheme():
    postln = workload(arch="postln_transformer_tiny")
    assert not sides.stock(postln).run.model.encoder_normalize_before
    scheme = workload(arch="admin_transformer_tiny", init_type="subln")
    assert sides.stock(scheme).run.model.encoder_normalize_before


def test_the_last_words_win():
    side = sides.ours(workload(encoder_layers=5)).with_options("--encoder-layers", "1")
    assert side.run.model.encoder_layers == 1


def test_command_is_what_runs():
    side = sides.ours(workload(data="my data/bin"), name="ours")
    assert side.command.startswith("fairseq-train --task translation 'my data/bin' ")
    assert "--arch admin_transformer_tiny" in side.command
    assert side.command.endswith("--user-dir admin_fairseq")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_precision_that_the_machine_lacks_is_refused():
    with pytest.raises(AdminError, match="stock: --fp16 needs a GPU"):
        sides.stock(workload(), words=["--fp16"]).check()


def test_two_precisions_are_refused():
    with pytest.raises(AdminError, match=r"--autocast bfloat16 .* --bf16 "):
        sides.ours(workload(), words=["--autocast", "bfloat16", "--bf16"]).check()


def test_options_that_only_ours_has_are_refused_for_stock():
    with pytest.raises(AdminError, match=r"fairseq-train's options: .*--init-type"):
        sides.stock(workload(), words=["--init-type", "default"]).check()


def test_the_folder_of_prepare_holds_the_data_below(tmp_path):
    (tmp_path / "bin").mkdir()
    with pytest.raises(AdminError, match=rf"not a folder .* wrote; give {tmp_path}/bin[?]$"):
        sides.check(workload(data=str(tmp_path)))
