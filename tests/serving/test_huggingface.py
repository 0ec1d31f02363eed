import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models import build_model
from fairseq.sequence_generator import SequenceGenerator

from admin_fairseq import cli, pieces
from admin_fairseq.checkpoints import building
from admin_fairseq.checkpoints.dictionaries import DataBin
from admin_fairseq.checkpoints.fold import fold_checkpoint
from admin_fairseq.config import AdminLanguageModelConfig, AdminTransformerConfig, resolve
from admin_fairseq.errors import AdminError
from admin_fairseq.serving import huggingface, huggingface_classes
from admin_fairseq.serving.huggingface import export_huggingface, transformers
from admin_fairseq.serving.huggingface_tokenizers import check_ids, subwords
from tests.checkpoints.conftest import move
from tests.integration.shims import ROOT

try:
    HF = transformers()
except AdminError as error:
    pytest.skip(f"the extra huggingface is optional: {error}", allow_module_level=True)

SIZES = {"encoder_layers": 2, "decoder_layers": 2, "decoder_attention_heads": 4}
JOINED = {"share_all_embeddings": True}
LEARNED = {"encoder_learned_pos": True, "decoder_learned_pos": True}
EMBEDDING_NORM = {**JOINED, "layernorm_embedding": True}
SHORT = {"max_source_positions": 30, "max_target_positions": 25}
LONG = {"max_source_positions": 40, "max_target_positions": 40}

MODELS = {
    "admin": ("admin_transformer_tiny", {**JOINED, **SHORT}, "MarianMTModel"),
    "tied": ("postln_transformer_tiny", JOINED, "MarianMTModel"),
    "half tied": (
        *("postln_transformer_tiny", {"share_decoder_input_output_embed": True}),
        "MarianMTModel",
    ),
    "untied": ("postln_transformer_tiny", {"activation_fn": "gelu"}, "MarianMTModel"),
    "learned": ("postln_transformer_tiny", {**LEARNED, **SHORT}, "MarianMTModel"),
    "deepnet": ("admin_transformer_tiny", {"init_type": "deepnet"}, "MarianMTModel"),
    "unscaled": ("postln_transformer_tiny", {"no_scale_embedding": True}, "MarianMTModel"),
    "preln": (
        *("preln_transformer_tiny", {**JOINED, **SHORT, "activation_fn": "gelu_accurate"}),
        "M2M100ForConditionalGeneration",
    ),
    "bart": (
        *("admin_transformer_tiny", {**EMBEDDING_NORM, **LEARNED}),
        "BartForConditionalGeneration",
    ),
    "bart with sinusoids": (
        *("postln_transformer_tiny", {**EMBEDDING_NORM, **SHORT}),
        "BartForConditionalGeneration",
    ),
    "mbart": ("preln_transformer_tiny", EMBEDDING_NORM, "MBartForConditionalGeneration"),
    "lm": ("admin_transformer_lm_tiny", {}, "OPTForCausalLM"),
    "tied lm": (
        *("admin_transformer_lm_tiny", {"share_decoder_input_output_embed": True}),
        "OPTForCausalLM",
    ),
    "preln lm": (
        *("preln_transformer_lm_tiny", {"decoder_learned_pos": True, "no_scale_embedding": True}),
        "OPTForCausalLM",
    ),
}
"""Name → architecture, options, and the class of transformers."""


def checkpoint(task, arch, **options):
    torch.manual_seed(2)
    kind = AdminLanguageModelConfig if "_lm" in arch else AdminTransformerConfig
    known = {**SIZES, **LONG, **options}
    if "_lm" in arch:
        of_encoders = re.compile("encoder_|max_source")
        known = {name: value for name, value in known.items() if not of_encoders.match(name)}
    config = kind(_name=arch, **known)
    model = move(build_model(config, task))
    return {
        "args": None,
        "cfg": {"model": vars(resolve(config)), "task": {"_name": "translation"}},
        "model": model.state_dict(),
    }


@pytest.fixture(scope="module")
def data(task, tmp_path_factory):
    """DataBin of a translation model, or of a language model: data("lm")."""
    folder = tmp_path_factory.mktemp("bin")
    for name in ("dict.de.txt", "dict.en.txt", "dict.txt"):
        task.source_dictionary.save(str(folder / name))
    return lambda arch: DataBin(str(folder), *(() if "lm" in arch else ("de", "en")))


def export(state, data, folder, asked=None, path="x.pt", **how):
    return export_huggingface(state, path, data, str(folder), asked or subwords(None, None), **how)


def auto_of(name):
    return HF.AutoModelForCausalLM if name.startswith("OPT") else HF.AutoModelForSeq2SeqLM


def loaded(folder, **how):
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    return auto_of(name).from_pretrained(str(folder), **how).eval()


@pytest.mark.parametrize("model", MODELS)
def test_the_same_logits(task, data, tmp_path, model):
    arch, options, name = MODELS[model]
    lines = export(checkpoint(task, arch, **options), data(arch), tmp_path / "out")
    assert f"class {name}" in lines
    difference = float(re.fullmatch(r"largest difference .*: (\S+)", lines[-1])[1])
    assert difference < 2e-5
    assert type(loaded(tmp_path / "out")).__name__ == name


def test_fairseqs_own_language_model(task, data, tmp_path):
    stock, _ = fold_checkpoint(checkpoint(task, "postln_transformer_lm_tiny"))
    stock["cfg"]["model"].update(max_target_positions=None, tokens_per_sample=40)
    assert "class OPTForCausalLM" in export(stock, data("lm"), tmp_path / "out")
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
def test_what_no_class_computes_is_refused(task, data, tmp_path, arch, options, message):
    state = checkpoint(task, f"{arch}_transformer_tiny", **options)
    with pytest.raises(AdminError, match=message) as error:
        export(state, data(""), tmp_path / "out")
    assert str(error.value).startswith("x.pt: ") and "\n" not in str(error.value)
    assert not os.listdir(tmp_path)


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
def test_a_wrong_model_is_not_written(task, data, tmp_path, monkeypatch, change, message):
    def class_of(options):
        def convert(*model):
            weights = found.convert(*model)
            change(weights)
            return weights

        found = huggingface_classes.class_of(options)
        return replace(found, convert=convert)

    monkeypatch.setattr(huggingface, "class_of", class_of)
    with pytest.raises(AdminError, match=message):
        export(checkpoint(task, "postln_transformer_tiny"), data(""), tmp_path / "out")
    assert not os.listdir(tmp_path)


def favouring_the_end(state, norm):
    """Sentences of a random model seldom end; add to the logit of the end symbol."""
    weights = state["model"]
    weights[f"decoder.{norm}.bias"] += 2.5 * weights["decoder.embed_tokens.weight"][2]
    return state


@pytest.mark.parametrize(
    ("model", "norm"), [("admin", "layers.1.final_layer_norm"), ("preln", "layer_norm")]
)
def test_generate_finds_what_fairseq_finds(task, data, tmp_path, model, norm):
    arch, options, _ = MODELS[model]
    state = favouring_the_end(checkpoint(task, arch, **options), norm)
    stock, _ = fold_checkpoint(state)
    original = building.build(stock["cfg"]["model"], stock["model"])
    export(state, data(arch), tmp_path / "out")
    (reference,) = huggingface._references(stock, batches=1)
    tokens = reference.inputs["input_ids"]
    batch = {"src_tokens": tokens, "src_lengths": tokens.ne(1).sum(1)}
    generator = SequenceGenerator([original], task.target_dictionary, beam_size=5)
    best = [found[0]["tokens"] for found in generator.generate([original], {"net_input": batch})]
    found = loaded(tmp_path / "out").generate(tokens, attention_mask=tokens.ne(1).long())
    assert [row[1:][row[1:] != 1].tolist() for row in found] == [row.tolist() for row in best]
    assert 1 < min(map(len, best)) < 20  # not all are cut off


def test_a_language_model_goes_on_as_in_fairseq(task, data, tmp_path):
    state = checkpoint(task, "admin_transformer_lm_tiny")
    stock, _ = fold_checkpoint(state)
    original = building.build(stock["cfg"]["model"], stock["model"])
    export(state, data("lm"), tmp_path / "out")
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
def test_loaded_saved_and_loaded_again(task, data, tmp_path, model):
    """As who trains it further does; a stock Marian loses its table of positions (the trap)."""
    arch, options, name = MODELS[model]
    export(checkpoint(task, arch, **options), data(arch), tmp_path / "out")
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


def pieces_of(dictionary, line):
    return dictionary.encode_line(line, add_if_not_exist=False).tolist()


def multi30k():
    """200 German sentences of the test set, and 2,000 others to learn subwords from."""
    folder = ROOT.parent / "shared" / "data" / "multi30k"
    found = []
    for name, number in (("test_2016_flickr", 200), ("train", 2000)):
        path = folder / f"{name}.de.gz"
        if not path.is_file():
            pytest.skip(f"no Multi30k ({path.name})")
        with gzip.open(path, "rt", encoding="utf-8") as file:
            found.append([next(file).rstrip("\n") for _ in range(number)])
    return found


def dictionary_of(lines):
    """As fairseq-preprocess makes it: of the pieces that occur."""
    dictionary = Dictionary()
    for line in lines:
        dictionary.encode_line(line)
    dictionary.finalize()
    return dictionary


def written(asked, dictionary, folder):
    asked.write(dictionary, 1024, str(folder))
    check_ids(str(folder), dictionary, HF.AutoTokenizer.from_pretrained)
    return HF.AutoTokenizer.from_pretrained(str(folder))


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_ids_of_sentencepiece_are_fairseqs(tmp_path, kind):
    test, train = multi30k()
    path = str(tmp_path / "spm.model")
    pieces.learn(train, path, 1000, kind)
    encode, decode = pieces.load(path)
    dictionary = dictionary_of(" ".join(encode(line)) for line in train)
    tokenizer = written(subwords(path, None), dictionary, tmp_path / "out")
    expected = [pieces_of(dictionary, " ".join(encode(line))) for line in test]
    assert tokenizer(test)["input_ids"] == expected
    known = [(row, line) for row, line in zip(expected, test) if 3 not in row]
    assert len(known) > 150 and len(known) < 200  # and some with pieces that are not in it
    for row, line in known:
        assert tokenizer.decode(row, skip_special_tokens=True) == decode(encode(line))


def test_ids_of_subword_nmt_are_fairseqs(tmp_path):
    learn_bpe = pytest.importorskip("subword_nmt.learn_bpe", reason="of the extra prepare")
    from subword_nmt.apply_bpe import BPE

    test, train = ([" ".join(re.findall(r"\w+|\S", line)) for line in f] for f in multi30k())
    path = tmp_path / "codes"
    with open(path, "w", encoding="utf-8") as codes:
        learn_bpe.learn_bpe([f"{line}\n" for line in train], codes, 800)
    with open(path, encoding="utf-8") as codes:
        encode = BPE(codes).process_line
    dictionary = dictionary_of(map(encode, train))
    tokenizer = written(subwords(None, str(path)), dictionary, tmp_path / "out")
    expected = [pieces_of(dictionary, encode(line)) for line in test]
    assert tokenizer([f"{line} </s>" for line in test])["input_ids"] == expected
    assert sum(3 in row for row in expected) > 0
    for row, line in zip(expected, test):
        if 3 not in row:
            assert tokenizer.decode(row, skip_special_tokens=True) == line


def test_ids_of_pieces_are_fairseqs(task, tmp_path):
    dictionary = task.source_dictionary
    tokenizer = written(subwords(None, None), dictionary, tmp_path / "out")
    lines = ["word1 word2", "word19  word3 ", "none word0", ""]
    assert tokenizer(lines)["input_ids"] == [pieces_of(dictionary, line) for line in lines]
    assert tokenizer.decode([5, 6, 2], skip_special_tokens=True) == "word1 word2"


HOSTILE = ["```", "`__import__('os')`", '"""', "\x1b[31m", "{x}", "---", "\u202e", "<s>1", "\\"]
HOSTILE += ["\U0001f600"]  # not in one unit of UTF-16


def test_cards_code_in_a_fresh_process(task, data, tmp_path, subwords_of_words):
    """Without fairseq and this plugin, and without a network."""
    hostile = Dictionary()
    for symbol in HOSTILE:
        hostile.add_symbol(symbol)
    other = SimpleNamespace(source_dictionary=task.source_dictionary, target_dictionary=hostile)
    state = checkpoint(other, "postln_transformer_tiny")
    hostile.save(os.path.join(data("").folder, "dict.xx.txt"))
    export(state, DataBin(data("").folder, "de", "xx"), tmp_path / "separate")
    back = checkpoint(
        SimpleNamespace(source_dictionary=hostile, target_dictionary=task.target_dictionary),
        "postln_transformer_tiny",
    )
    export(back, DataBin(data("").folder, "xx", "en"), tmp_path / 'hostile "name')
    codes = tmp_path / "codes.txt"
    codes.write_text("#version: 0.2\nw o\n")
    by = {"spm": subwords(subwords_of_words, None), "codes": subwords(None, str(codes))}
    for name, asked in by.items():
        state = checkpoint(task, "preln_transformer_tiny", **JOINED)
        export(state, data(""), tmp_path / name, asked)
        lm = checkpoint(task, "admin_transformer_lm_tiny")
        export(lm, data("lm"), tmp_path / f"{name} lm", asked)
    folders = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    assert len(folders) == 6
    code = [
        re.search(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.M | re.S)[1]
        for folder in folders
    ]
    ends = [' + " </s>"]' in text for text in code]
    assert ends == [folder.name == "codes" for folder in folders]
    without = "import sys\nfor name in ('fairseq', 'admin_fairseq', 'torchaudio'):\n"
    lines = [without + "    sys.modules[name] = None", *code]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\nprint('-')\n".join(lines)],
        **{"cwd": tmp_path, "env": env, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = [text.strip() for text in done.stdout.split("-\n")][1:]
    assert len(outputs) == len(folders)
    assert all("word" in text for text, folder in zip(outputs, folders) if "sep" not in folder.name)


@pytest.fixture
def subwords_of_words(tmp_path_factory):
    path = str(tmp_path_factory.mktemp("spm") / "spm.model")
    pieces.learn([f"word{i} word{j}" for i in range(20) for j in range(20)], path, 25)
    return path


def test_the_card(task, data, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    scores = {"dataset": "multi30k", "subset": "test", "checkpoint": "best.pt"}
    scores["bleu"] = {"detokenised": {"score": 37.014, "signature": "nrefs:1|case:mixed"}}
    (run / "evaluation.json").write_text(json.dumps(scores))
    (run / "settings").write_text("fairseq-train data/bin --arch admin_transformer\n")
    card = {}
    for name in ("best.pt", "last.pt"):
        state = checkpoint(task, "admin_transformer_tiny", init_type="deepnet")
        export(state, data(""), tmp_path / name, path=str(run / name))
        card[name] = (tmp_path / name / "README.md").read_text()
    (run / "settings").unlink()
    state = checkpoint(task, "postln_transformer_tiny")
    state["cfg"]["optimization"] = {"lr": [0.002], "max_update": 5}
    state["cfg"]["optimizer"] = {"_name": "adam"}
    export(state, data(""), tmp_path / "last.pt", path=str(run / "last.pt"), force=True)
    of_best = ("value: 37.01", "| BLEU (detokenised) | 37.01 (nrefs:1\\|case:mixed) |")
    assert all(part in card["best.pt"] and part not in card["last.pt"] for part in of_best)
    of_both = ("- de\n- en", "DeepNorm", "2L-2L", "--arch admin_transformer\n", "trust_remote_code")
    assert all(part in text for part in of_both for text in card.values())
    main = "fairseq-train DATA_BIN --arch postln_transformer_tiny --optimizer adam --lr 0.002"
    assert f"{main} \\\n    --max-update 5\n" in (tmp_path / "last.pt" / "README.md").read_text()


def test_only_models_are_replaced_and_only_when_asked(task, data, tmp_path):
    def again(folder="out", **how):
        export(checkpoint(task, "postln_transformer_tiny"), data(""), tmp_path / folder, **how)

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


def test_modes_follow_the_umask(task, data, tmp_path):
    old = os.umask(0o027)
    try:
        export(checkpoint(task, "postln_transformer_tiny"), data(""), tmp_path / "out")
    finally:
        os.umask(old)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert modes == {0o640}


@pytest.mark.parametrize("module", ["transformers.modeling_utils", "safetensors.torch"])
def test_without_transformers_the_extra_is_named(task, data, tmp_path, monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(AdminError, match=r"pip install 'transformers>=5' safetensors"):
        export(checkpoint(task, "postln_transformer_tiny"), data(""), tmp_path / "out")
    assert not os.listdir(tmp_path)


def test_subword_models_that_are_none(tmp_path, subwords_of_words):
    (tmp_path / "old").write_text("t h</w>\n")
    (tmp_path / "odd").write_text("#version: 0.2\nth\n")
    for name in ("old", "odd"):
        with pytest.raises(AdminError, match=f"{name}: not codes of subword-nmt"):
            subwords(None, str(tmp_path / name))
    with pytest.raises(AdminError, match=r"none: cannot be read"):
        subwords(None, str(tmp_path / "none"))
    with pytest.raises(AdminError, match=r"old: not a sentencepiece model"):
        subwords(str(tmp_path / "old"), None)
    with pytest.raises(AdminError, match="a model has only one of them"):
        subwords(subwords_of_words, str(tmp_path / "old"))


def test_the_command(task, data, tmp_path, capsys):
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
            cli.main([*words, data("lm").folder, "--to", *more.split()])
    with pytest.raises(SystemExit, match=r"dict.txt"):
        cli.main([*words, str(tmp_path / "empty"), "--to", "huggingface"])
    assert not (tmp_path / "out").exists()
    cli.main([*words, data("lm").folder, "--to", "huggingface"])
    assert "class OPTForCausalLM" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("language_model", [False, True])
def test_onnx_as_documented(language_model, task, data, tmp_path):
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
    export(state, data("lm" if language_model else ""), tmp_path / "admin-18l")
    hidden = "import sys\nsys.modules['torchaudio'] = None\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", hidden + code],
        **{"cwd": tmp_path, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    told = re.search(r"^largest difference: (\S+)$", done.stdout, re.M)
    assert 0 < float(told[1]) < 1e-5
