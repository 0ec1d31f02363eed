"""Which class of transformers computes what a model computes."""

import os
import re

import pytest

from admin_fairseq.checkpoints.fold import fold_checkpoint
from admin_fairseq.errors import AdminError

from .huggingface_exports import JOINED, LEARNED, MODELS, checkpoint, export, loaded


@pytest.mark.parametrize("model", MODELS)
def test_the_same_logits(task, bins, tmp_path, model):
    arch, options, name = MODELS[model]
    lines = export(checkpoint(task, arch, **options), bins(arch), tmp_path / "out")
    assert f"class {name}" in lines
    difference = float(re.fullmatch(r"largest difference .*: (\S+)", lines[-1])[1])
    assert difference < 2e-5
    assert type(loaded(tmp_path / "out")).__name__ == name


def test_fairseqs_own_language_model(task, bins, tmp_path):
    stock, _ = fold_checkpoint(checkpoint(task, "postln_transformer_lm_tiny"))
    stock["cfg"]["model"].update(max_target_positions=None, tokens_per_sample=40)
    assert "class OPTForCausalLM" in export(stock, bins("lm"), tmp_path / "out")
    assert loaded(tmp_path / "out").config.max_position_embeddings == 40


@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        ("preln", {}, "a Pre-LN transformer but M2M100.*, which is one with --share-all-embed"),
        ("preln", {**JOINED, **LEARNED}, "one without --encoder-learned-pos"),
        ("postln", {"layernorm_embedding": True}, "but Bart.* with --share-all-embeddings"),
        ("postln", {"adaptive_softmax_cutoff": [8]}, "no class with --adaptive-softmax-cutoff"),
        ("postln", {"no_cross_attention": True}, "no class with --no-cross-attention"),
        ("postln", {"quant_noise_pq": 0.1}, "no class with --quant-noise-pq"),
        ("postln", {"no_token_positional_embeddings": True}, "--no-token-positional-embeddings"),
        ("preln", {**JOINED, "no_decoder_final_norm": True}, "--no-decoder-final-norm"),
        ("postln", {"decoder_normalize_before": True}, "must be the same"),
        ("postln", {"decoder_embed_dim": 32}, "--encoder-embed-dim 64 and --decoder-embed-dim 32"),
        ("postln", {"decoder_output_dim": 32}, "--decoder-output-dim 32 and --decoder-embed-dim"),
        ("postln", {"activation_fn": "relu_squared"}, "no --activation-fn relu_squared"),
        ("tfixup", {}, "has no stock form"),
        ("subln", {}, "has no stock form"),
        ("b2t", {}, "has no stock form"),
        ("dlcl", {}, "has no stock form"),
    ],
)
def test_what_no_class_computes_is_refused(task, bins, tmp_path, arch, options, message):
    state = checkpoint(task, f"{arch}_transformer_tiny", **options)
    with pytest.raises(AdminError, match=message) as error:
        export(state, bins(""), tmp_path / "out")
    assert str(error.value).startswith("x.pt: ") and "\n" not in str(error.value)
    assert not os.listdir(tmp_path)
