import json
import math
import os
import sys
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch
from fairseq.models import build_model

from admin_fairseq import cli
from admin_fairseq.architectures import KINDS
from admin_fairseq.checkpoints import building
from admin_fairseq.checkpoints.fold import fold_checkpoint
from admin_fairseq.errors import AdminError
from admin_fairseq.pieces import learn
from admin_fairseq.serving import export
from admin_fairseq.serving.description import Positions, read_description
from admin_fairseq.serving.export import (
    QUANTIZATIONS,
    export_ctranslate2,
    refuse_other_tasks,
    refuse_to_replace,
)

ctranslate2 = pytest.importorskip("ctranslate2", reason="CTranslate2 is an optional extra")


def test_a_folder_that_ctranslate2_loads(checkpoint, data, tmp_path):
    folder = tmp_path / "out"
    changes = export_ctranslate2(checkpoint(), "x.pt", data, str(folder))
    assert changes[0] == "folded the scales of 4 encoder and 3 decoder sub-layers"
    assert ctranslate2.contains_model(str(folder))
    translator = ctranslate2.Translator(str(folder), device="cpu")
    assert translator.translate_batch([["word1", "word2"]], max_decoding_length=5)[0].hypotheses
    assert sorted(os.listdir(tmp_path)) == ["bin", "out"]


@pytest.mark.parametrize(
    ("arch", "options"),
    [
        ("admin_transformer_lm_tiny", {}),
        ("admin_transformer_lm_tiny", {"share_decoder_input_output_embed": True}),
        ("admin_transformer_lm_tiny", {"layernorm_embedding": True, "activation_fn": "gelu"}),
        ("preln_transformer_lm_tiny", {"no_scale_embedding": True}),
        ("preln_transformer_lm_tiny", {"no_decoder_final_norm": True, "decoder_learned_pos": True}),
    ],
)
def test_a_language_model_computes_the_same(language_model, text, task, tmp_path, arch, options):
    state = language_model(arch, **options)
    export_ctranslate2(state, "x.pt", text, str(tmp_path / "out"))
    original = building.build(state["cfg"]["model"], state["model"])
    generator = ctranslate2.Generator(str(tmp_path / "out"), device="cpu", intra_threads=1)
    dictionary = task.target_dictionary
    for length in (1, 2, 9, 30):
        tokens = torch.randint(4, len(dictionary), (2, length))
        tokens[:, 0] = dictionary.eos()
        with torch.no_grad():
            expected = original.get_normalized_probs(original(tokens), log_probs=True)
        pieces = [[dictionary[token] for token in row] for row in tokens.tolist()]
        found = generator.forward_batch(pieces, return_log_probs=True)
        np.testing.assert_allclose(np.array(found), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("bos", "start"), [(False, "</s>"), (True, "<s>")])
def test_the_folder_of_a_language_model(language_model, text, tmp_path, bos, start):
    state = language_model(add_bos_token=bos, max_target_positions=20)
    export_ctranslate2(state, "x.pt", text, str(tmp_path / "out"))
    description = read_description(str(tmp_path / "out"))
    assert description.positions == Positions(20, 20) and description.languages == {}
    assert set(description.checksums) == {"model.bin", "config.json", "vocabulary.json"}
    assert json.loads((tmp_path / "out" / "config.json").read_text())["bos_token"] == start
    export_ctranslate2(state, "x.pt", text, str(tmp_path / "out"), "int8", force=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adaptive_softmax_cutoff": "8"}, "no equivalent of --adaptive-softmax-cutoff"),
        ({"no_token_positional_embeddings": True}, "--no-token-positional-embeddings is not supp"),
        ({"decoder_output_dim": 32}, "no equivalent of --decoder-output-dim"),
        ({"init_type": "tfixup"}, "has no stock form"),
    ],
)
def test_language_models_that_ctranslate2_cannot_take(
    language_model, text, tmp_path, options, message
):
    with pytest.raises(AdminError, match=f"x.pt: .*{message}"):
        export_ctranslate2(language_model(**options), "x.pt", text, str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["lm"]


@pytest.mark.parametrize("option", ["scale_attn", "scale_fc", "scale_heads", "scale_resids"])
def test_stock_language_models_with_parts_that_ctranslate2_lacks(
    language_model, text, task, tmp_path, option
):
    stock, _ = fold_checkpoint(language_model())
    options = {**stock["cfg"]["model"], option: True}
    stock["cfg"]["model"] = options
    stock["model"] = build_model(Namespace(**options), task).state_dict()
    with pytest.raises(AdminError, match=f"no equivalent of --{option.replace('_', '-')}"):
        export_ctranslate2(stock, "x.pt", text, str(tmp_path / "out"))


def test_models_of_other_tasks_are_refused(language_model, checkpoint, monkeypatch):
    refuse_other_tasks(language_model())
    refuse_other_tasks(checkpoint())
    kinds = {"admin_transformer_lm": replace(KINDS["admin_transformer_lm"], task="masked_lm")}
    monkeypatch.setattr(export, "KINDS", kinds)
    with pytest.raises(AdminError, match=r"a model for masked_lm .*; only models for translation"):
        refuse_other_tasks(language_model())


def test_the_description_says_what_ctranslate2_does_not(checkpoint, data, tmp_path):
    state = checkpoint(max_source_positions=30, max_target_positions=20)
    export_ctranslate2(state, "x.pt", data, str(tmp_path / "out"), quantization="int8")
    description = json.loads((tmp_path / "out" / "admin_fairseq.json").read_text())
    assert description["languages"] == {"source": "de", "target": "en"}
    assert description["positions"] == {"source": 30, "target": 20}
    assert description["quantization"] == "int8"
    assert description["packages"]["ctranslate2"] == ctranslate2.__version__
    assert {*description["checksums"], "admin_fairseq.json"} == set(os.listdir(tmp_path / "out"))
    assert read_description(str(tmp_path / "out")).positions == Positions(30, 20)


def test_quantised_weights_take_less_room(checkpoint, data, tmp_path):
    sizes = {}
    for quantization in ("float32", "int8"):
        folder = tmp_path / quantization
        state = checkpoint(max_source_positions=30, max_target_positions=30)
        export_ctranslate2(state, "x.pt", data, str(folder), quantization)
        sizes[quantization] = (folder / "model.bin").stat().st_size
    assert sizes["int8"] < 0.4 * sizes["float32"]


def test_quantizations_are_ctranslate2s_own():
    from ctranslate2.specs.model_spec import ACCEPTED_MODEL_TYPES

    assert set(QUANTIZATIONS) == set(ACCEPTED_MODEL_TYPES)


def test_the_subword_model_of_other_data_is_refused(checkpoint, data, tmp_path):
    torch.save(checkpoint(), tmp_path / "x.pt")
    learn([f"thing{i} thing{j}" for i in range(20) for j in range(20)], str(tmp_path / "o"), 25)
    words = ["export", str(tmp_path / "x.pt"), str(tmp_path / "out"), "--data", data.folder]
    words += ["--source-lang", "de", "--target-lang", "en"]
    for target in ("ctranslate2", "huggingface"):
        with pytest.raises(SystemExit, match="has only 0 of the 20 pieces"):
            cli.main([*words, "--to", target, "--sentencepiece-model", str(tmp_path / "o")])
    assert not (tmp_path / "out").exists()


def test_the_subword_model_comes_along(checkpoint, data, tmp_path, subwords):
    folder = tmp_path / "out"
    export_ctranslate2(checkpoint(), "x.pt", data, str(folder), sentencepiece_model=subwords)
    with open(subwords, "rb") as model:
        assert (folder / "sentencepiece.model").read_bytes() == model.read()
    (tmp_path / "empty").touch()
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(AdminError, match="none: no such file"):
        export_ctranslate2(checkpoint(), "x.pt", data, str(folder), sentencepiece_model="none")
    others = [str(tmp_path / name) for name in ("empty", "fifo")]
    for other in (*others, os.path.join(data.folder, "dict.de.txt")):
        with pytest.raises(AdminError, match=f"{other}: not a sentencepiece model"):
            export_ctranslate2(checkpoint(), "x.pt", data, str(folder), sentencepiece_model=other)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adaptive_softmax_cutoff": [8]}, "no equivalent of --adaptive-softmax-cutoff"),
        ({"no_cross_attention": True}, "no equivalent of --no-cross-attention"),
        ({"arch": "postln_transformer_tiny", "quant_noise_pq": 0.1}, "of --quant-noise-pq"),
        ({"no_token_positional_embeddings": True}, "--no-token-positional-embeddings is not supp"),
        ({"activation_fn": "tanh"}, "--activation-fn tanh is not supported"),
        ({"decoder_attention_heads": 4}, "must have the same value"),
        ({"init_type": "tfixup"}, "has no stock form"),
        (
            {"arch": "postln_transformer_tiny", "decoder_normalize_before": True},
            "--encoder-normalize-before and --decoder-normalize-before must have the same value",
        ),
    ],
)
def test_what_ctranslate2_cannot_take_is_refused(checkpoint, data, tmp_path, options, message):
    with pytest.raises(AdminError, match=message) as error:
        export_ctranslate2(checkpoint(**options), "x.pt", data, str(tmp_path / "out"))
    assert "x.pt" in str(error.value) and "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["bin"]


def test_a_dictionary_of_another_size(checkpoint, data, tmp_path):
    with open(os.path.join(data.folder, "dict.de.txt"), "a", encoding="utf-8") as file:
        file.write("more 1\n")
    with pytest.raises(AdminError, match=r"x.pt: .*dict.de.txt: 25 types, but the .* encoder"):
        export_ctranslate2(checkpoint(), "x.pt", data, str(tmp_path / "out"))


def test_without_ctranslate2_the_extra_is_named(checkpoint, data, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ctranslate2", None)
    with pytest.raises(AdminError, match=r"pip install ctranslate2"):
        export_ctranslate2(checkpoint(), "x.pt", data, str(tmp_path / "out"))


def test_only_models_are_replaced_and_only_when_asked(checkpoint, data, tmp_path):
    folder = str(tmp_path / "out")
    refuse_to_replace(folder, force=False)
    export_ctranslate2(checkpoint(), "x.pt", data, folder)
    with pytest.raises(AdminError, match="already exists; use --force"):
        refuse_to_replace(folder, force=False)
    refuse_to_replace(folder, force=True)
    export_ctranslate2(checkpoint(), "x.pt", data, folder, quantization="int8")
    assert json.loads((tmp_path / "out" / "admin_fairseq.json").read_text())["quantization"]
    (tmp_path / "file").touch()
    (tmp_path / "out" / "thesis.tex").touch()
    for precious in (data.folder, str(tmp_path / "file"), folder):
        with pytest.raises(AdminError, match="nothing else; it will not be replaced"):
            refuse_to_replace(precious, force=True)
        with pytest.raises(AdminError, match="nothing else; it will not be replaced"):
            export_ctranslate2(checkpoint(), "x.pt", data, precious)


def test_models_of_others_and_of_earlier_versions_have_a_description(tmp_path):
    assert read_description(str(tmp_path)).positions == Positions(1024, 1024)
    earlier = {"languages": {}, "positions": {"source": 9, "target": 8}, "quantization": None}
    (tmp_path / "admin_fairseq.json").write_text(json.dumps(earlier))
    assert read_description(str(tmp_path)).positions == Positions(9, 8)


@pytest.mark.parametrize(
    "content",
    [
        *("{", "[]", "[" * 100_000, "{}", '{"positions": null}'),
        *(
            json.dumps({"positions": {"source": number, "target": 5}})
            for number in ("x", 0, -5, 5.5, True, math.nan, 10**30)
        ),
    ],
)
def test_a_damaged_description_is_refused(tmp_path, content):
    (tmp_path / "admin_fairseq.json").write_text(content)
    with pytest.raises(AdminError, match=r"json: not a description as admin-fairseq export writes"):
        read_description(str(tmp_path))


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_modes_follow_the_umask(checkpoint, data, tmp_path, subwords, mask):
    os.chmod(subwords, 0o777)
    old = os.umask(mask)
    try:
        export_ctranslate2(
            checkpoint(), "x.pt", data, str(tmp_path / "out"), sentencepiece_model=subwords
        )
    finally:
        os.umask(old)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert modes == {0o666 & ~mask}
