import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator

from admin_fairseq import cli
from admin_fairseq.checkpoints import building
from admin_fairseq.checkpoints.fold import fold_checkpoint
from admin_fairseq.errors import AdminError
from admin_fairseq.serving import huggingface, huggingface_classes
from tests.integration.shims import ROOT

from .huggingface_exports import HF, JOINED, MODELS, auto_of, checkpoint, export, loaded


def name_of(weights, end):
    return next(name for name in weights if name.endswith(end))


def scale(weights):
    name = name_of(weights, "layers.1.fc1.weight")
    weights[name] = weights[name] * 1.01


def spoil(weights):
    weights[name_of(weights, "layers.1.fc1.weight")][0, 0] = float("nan")


def forget(weights):
    del weights[name_of(weights, "layers.1.fc1.weight")]


def shorten(weights):
    name = name_of(weights, "layers.1.fc1.weight")
    weights[name] = weights[name][:-1]


def add(weights):
    weights["model.decoder.more"] = torch.ones(1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (scale, r"as MarianMTModel the model differs by 0\.\d+ in logits"),
        (spoil, "differs by nan in logits"),
        (forget, "no place for model.encoder.layers.1.fc1.weight"),
        (shorten, "MarianMTModel cannot be loaded"),
        (add, "no place for model.decoder.more"),
    ],
)
def test_a_wrong_model_is_not_written(task, bins, tmp_path, monkeypatch, change, message):
    def class_of(options):
        def convert(*model):
            weights = found.convert(*model)
            change(weights)
            return weights

        found = huggingface_classes.class_of(options)
        return replace(found, convert=convert)

    monkeypatch.setattr(huggingface, "class_of", class_of)
    with pytest.raises(AdminError, match=message):
        export(checkpoint(task, "postln_transformer_tiny"), bins(""), tmp_path / "out")
    assert not os.listdir(tmp_path)


def favouring_the_end(state, norm):
    """Sentences of a random model seldom end; add to the logit of the end symbol."""
    weights = state["model"]
    weights[f"decoder.{norm}.bias"] += 2.5 * weights["decoder.embed_tokens.weight"][2]
    return state


@pytest.mark.parametrize(
    ("model", "norm"), [("admin", "layers.1.final_layer_norm"), ("preln", "layer_norm")]
)
def test_generate_finds_what_fairseq_finds(task, bins, tmp_path, model, norm):
    arch, options, _ = MODELS[model]
    state = favouring_the_end(checkpoint(task, arch, **options), norm)
    stock, _ = fold_checkpoint(state)
    original = building.build(stock["cfg"]["model"], stock["model"])
    export(state, bins(arch), tmp_path / "out")
    (reference,) = huggingface._references(original, batches=1)
    tokens = reference.inputs["input_ids"]
    batch = {"src_tokens": tokens, "src_lengths": tokens.ne(1).sum(1)}
    generator = SequenceGenerator([original], task.target_dictionary, beam_size=5)
    best = [found[0]["tokens"] for found in generator.generate([original], {"net_input": batch})]
    found = loaded(tmp_path / "out").generate(tokens, attention_mask=tokens.ne(1).long())
    assert [row[1:][row[1:] != 1].tolist() for row in found] == [row.tolist() for row in best]
    assert 1 < min(map(len, best)) < 20  # not all are cut off


def test_a_language_model_goes_on_as_in_fairseq(task, bins, tmp_path):
    state = checkpoint(task, "admin_transformer_lm_tiny")
    stock, _ = fold_checkpoint(state)
    original = building.build(stock["cfg"]["model"], stock["model"])
    export(state, bins("lm"), tmp_path / "out")
    model = loaded(tmp_path / "out")
    for prompt in ([2, 5], [2, 7, 9, 4, 11]):
        (found,) = model.generate(torch.tensor([prompt]), num_beams=1).tolist()
        logits = original(torch.tensor([found[:-1]]))[0][0]
        logits[:, 1] = -torch.inf  # padding
        logits[len(prompt) - 1, 2] = -torch.inf  # not at once the end
        expected = logits[len(prompt) - 1 :].argmax(-1).tolist()
        assert found[len(prompt) :] == [*expected[:-1], 2]  # forced at the end
        assert len(expected) > 30


@pytest.mark.parametrize("model", ["admin", "preln", "bart", "lm"])
def test_loaded_saved_and_loaded_again(task, bins, tmp_path, model):
    """As who trains it further does; a stock Marian loses its table of positions (the trap)."""
    arch, options, name = MODELS[model]
    export(checkpoint(task, arch, **options), bins(arch), tmp_path / "out")
    inputs = {"input_ids": torch.tensor([[4, 5, 6, 7, 8, 2]])}
    if "lm" not in model:
        inputs["decoder_input_ids"] = torch.tensor([[2, 4, 5, 6, 7]])
    first = loaded(tmp_path / "out")
    expected = first(**inputs).logits
    loaded(tmp_path / "out", trust_remote_code=True).save_pretrained(str(tmp_path / "again"))
    for how in ({}, {"trust_remote_code": True}):
        found = auto_of(name).from_pretrained(str(tmp_path / "again"), **how).eval()
        assert torch.equal(found(**inputs).logits, expected)
    first.save_pretrained(str(tmp_path / "stock"))
    lost = auto_of(name).from_pretrained(str(tmp_path / "stock")).eval()
    same = torch.allclose(lost(**inputs).logits, expected, atol=1e-4)
    assert same == (name != "MarianMTModel")


def test_only_models_are_replaced_and_only_when_asked(task, bins, tmp_path):
    def again(folder="out", **how):
        export(checkpoint(task, "postln_transformer_tiny"), bins(""), tmp_path / folder, **how)

    again()
    with pytest.raises(AdminError, match="already exists; use --force"):
        again()
    again(force=True)
    shutil.copytree(tmp_path / "out", tmp_path / "deep" / "out")
    (tmp_path / "deep" / "out" / "target").mkdir()
    (tmp_path / "deep" / "out" / "target" / "notes").touch()
    (tmp_path / "link").symlink_to("out")
    with pytest.raises(AdminError, match="nothing else; it will not be replaced"):
        again("link", force=True)
    (tmp_path / "out" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for folder in ("out", "file", "deep/out"):
        with pytest.raises(AdminError, match="nothing else; it will not be replaced"):
            again(folder, force=True)


def test_modes_follow_the_umask(task, bins, tmp_path):
    old = os.umask(0o027)
    try:
        export(checkpoint(task, "postln_transformer_tiny"), bins(""), tmp_path / "out")
    finally:
        os.umask(old)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert modes == {0o640}


@pytest.mark.parametrize("module", ["transformers.modeling_utils", "safetensors.torch"])
def test_without_transformers_the_extra_is_named(task, bins, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(AdminError, match=r"pip install 'transformers>=5' safetensors"):
        export(checkpoint(task, "postln_transformer_tiny"), bins(""), tmp_path / "out")
    assert not os.listdir(tmp_path)


def test_a_torch_that_is_too_old_is_named(task, bins, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface.transformers(), "is_torch_available", lambda: False)
    message = (
        rf"transformers {HF.__version__} does not support torch {re.escape(torch.__version__)}"
    )
    with pytest.raises(AdminError, match=message):
        export(checkpoint(task, "postln_transformer_tiny"), bins(""), tmp_path / "out")
    assert not os.listdir(tmp_path)


def test_the_command(task, bins, tmp_path, capsys):
    state = checkpoint(task, "admin_transformer_lm_tiny")
    state["cfg"]["task"]["_name"] = "language_modeling"
    torch.save(state, tmp_path / "lm.pt")
    words = ["export", str(tmp_path / "lm.pt"), str(tmp_path / "out"), "--data"]
    (tmp_path / "empty").mkdir()
    for more, message in (
        ("huggingface --quantization int8", "--quantization is for --to ctranslate2"),
        ("ctranslate2 --bpe-codes x", "--bpe-codes is for --to huggingface"),
    ):
        with pytest.raises(SystemExit, match=message):
            cli.main([*words, bins("lm").folder, "--to", *more.split()])
    with pytest.raises(SystemExit, match=r"dict.txt"):
        cli.main([*words, str(tmp_path / "empty"), "--to", "huggingface"])
    assert not (tmp_path / "out").exists()
    cli.main([*words, bins("lm").folder, "--to", "huggingface"])
    assert "class OPTForCausalLM" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("language_model", [False, True])
def test_onnx_as_documented(language_model, task, bins, tmp_path):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name, reason="of no extra; docs/serving.md names it")
    page = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^python - <<'END'\n(.*?)^END$", page, re.M | re.S)
    state = checkpoint(task, "admin_transformer_tiny", **JOINED)
    if language_model:
        state = checkpoint(task, "admin_transformer_lm_tiny")
        state["cfg"]["task"]["_name"] = "language_modeling"
        code = code.replace("AutoModelForSeq2SeqLM", "AutoModelForCausalLM")
        code = re.sub(r"^.*decoder_input_ids.*\n", "", code, flags=re.M)
    export(state, bins("lm" if language_model else ""), tmp_path / "admin-18l")
    hidden = "import sys\nsys.modules['torchaudio'] = None\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", hidden + code],
        **{"cwd": tmp_path, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = re.search(r"^largest difference: (\S+)$", done.stdout, re.M)
    assert 0 < float(told[1]) < 1e-5
