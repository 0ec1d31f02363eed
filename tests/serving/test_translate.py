import io
import json
import logging
import os
import sys

import pytest
import sentencepiece
import torch

from admin_fairseq import cli
from admin_fairseq.checkpoints import building
from admin_fairseq.errors import AdminError
from admin_fairseq.serving.export import export_ctranslate2
from admin_fairseq.serving.translate import TranslationOptions, translate

from .conftest import of_pieces

ctranslate2 = pytest.importorskip("ctranslate2", reason="CTranslate2 is an optional extra")

LINES = ["word1 word2 word3", "", "word4", "word5 word5", "   ", "word7 word8 word9 word1 word2"]


@pytest.fixture
def model(checkpoint, data, tmp_path):
    folder = str(tmp_path / "model")
    state = checkpoint(max_source_positions=12, max_target_positions=10)
    export_ctranslate2(state, "x.pt", data, folder)
    return folder


def options(model, **more):
    return TranslationOptions(model, device="cpu", inter_threads=1, **more)


def test_every_step_takes_what_the_checkpoint_finds_likeliest(model, checkpoint, task):
    state = checkpoint(max_source_positions=12, max_target_positions=10)
    original = building.build(state["cfg"]["model"], state["model"])
    dictionary = task.target_dictionary
    for line in filter(str.strip, LINES):
        source = dictionary.encode_line(line, add_if_not_exist=False).long().unsqueeze(0)
        target = torch.tensor([[dictionary.eos()]])
        for _ in range(6):
            logits, _ = original(source, torch.tensor([source.size(1)]), target)
            target = torch.cat([target, logits[:, -1:].argmax(-1)], dim=1)
        tokens = [*target[0, 1:].tolist(), dictionary.eos()]
        expected = [dictionary[token] for token in tokens[: tokens.index(dictionary.eos())]]
        found = next(translate([line], options(model, beam=1, max_len_b=6))).split()
        assert found == expected


def test_a_line_for_every_line_in_order(model):
    found = list(translate(LINES * 20, options(model, max_tokens=16)))
    assert found == list(translate(LINES, options(model))) * 20
    assert [not line for line in found[:6]] == [False, True, False, False, True, False]


def test_lines_are_read_as_they_are_translated(model):
    translations = translate(LINES * 500, options(model, max_tokens=8))
    assert next(translations)
    read = []
    next(
        translate((read.append(line) or line for line in LINES * 500), options(model, max_tokens=8))
    )
    assert len(read) < 1000


def test_too_long_a_line_is_cut_with_a_warning(model, caplog):
    long = " ".join(["word3"] * 40)
    with caplog.at_level(logging.WARNING, "admin_fairseq"):
        found = list(translate(["word1", long], options(model)))
    assert "line 2 has 40 pieces; only the first 11 are read" in caplog.text
    assert found[1] == next(translate([" ".join(["word3"] * 11)], options(model)))
    assert all(len(line.split()) <= 9 for line in found)  # as many positions as the model has


def test_sentencepiece_in_and_out(checkpoint, data, subwords, tmp_path, caplog):
    of_pieces(data)
    model = str(tmp_path / "model")
    export_ctranslate2(checkpoint(), "x.pt", data, model)
    caplog.clear()
    processor = sentencepiece.SentencePieceProcessor(model_file=subwords)
    pieces = [" ".join(processor.encode(line, out_type=str)) for line in LINES]
    with caplog.at_level(logging.INFO, "admin_fairseq"):
        as_pieces = translate(pieces, options(model))
    assert caplog.messages == [f"{model} has no sentencepiece model: lines are read as pieces"]
    caplog.clear()
    expected = [processor.decode(line.split()) for line in as_pieces]
    assert list(translate(LINES, options(model, sentencepiece_model=subwords))) == expected
    assert not caplog.messages


def test_the_subword_model_of_other_data_is_refused(model, subwords):
    told = "has only 0 of the 20 pieces in .*shared_vocabulary.json; --sentencepiece-model must be"
    with pytest.raises(AdminError, match=told):
        translate(LINES, options(model, sentencepiece_model=subwords))


def test_options_reach_the_engine(model, monkeypatch):
    asked = {}

    def translate_iterable(self, source, **search):
        asked.update(search)
        return iter(())

    monkeypatch.setattr(ctranslate2.Translator, "translate_iterable", translate_iterable)
    list(translate(LINES, options(model, beam=3, lenpen=0.6, max_len_b=7, max_tokens=50)))
    assert asked == {
        "beam_size": 3,
        "length_penalty": 0.6,
        "max_decoding_length": 7,
        "max_batch_size": 50,
        "batch_type": "tokens",
        "max_input_length": 0,
        "suppress_sequences": [["<blank>"]],
    }


def test_the_model_brings_its_subword_model(model, tmp_path):
    (tmp_path / "model" / "sentencepiece.model").write_bytes(b"damaged")
    with pytest.raises(AdminError, match=r"sentencepiece.model: not a sentencepiece model"):
        translate(LINES, options(model))
    with pytest.raises(AdminError, match=r"none.model: no such file"):
        translate(LINES, options(model, sentencepiece_model="none.model"))


def test_what_is_no_model(tmp_path):
    with pytest.raises(AdminError, match="not a CTranslate2 model; make one with admin-fairseq ex"):
        translate(LINES, options(str(tmp_path)))


def damage(model, name, content):
    with open(os.path.join(model, name), "wb") as file:
        file.write(content)


def without_checksums(model):
    """As earlier versions exported it."""
    path = os.path.join(model, "admin_fairseq.json")
    with open(path) as file:
        description = json.load(file)
    del description["checksums"]
    damage(model, "admin_fairseq.json", json.dumps(description).encode())


@pytest.mark.parametrize("name", ["model.bin", "config.json", "shared_vocabulary.json"])
def test_a_flipped_bit_is_told_before_anything_is_translated(model, name):
    with open(os.path.join(model, name), "rb") as file:
        content = bytearray(file.read())
    content[len(content) // 2] ^= 1
    damage(model, name, content)
    with pytest.raises(AdminError, match=f"{name}: changed or damaged since the export"):
        translate(LINES, options(model))


DAMAGES = {
    "config.json": [b"", b"[]", b"null", b'{"unk_token": 5}', b"\xff", b"[" * 100_000],
    "shared_vocabulary.json": [b"", b"null", b"[1]", b'["a"]', b"{}"],
    "model.bin": [b"", b"\xff" * 4000],
}


@pytest.mark.parametrize(
    ("name", "content"), [(name, content) for name, many in DAMAGES.items() for content in many]
)
def test_a_damaged_model_without_checksums_gets_one_line(model, name, content):
    without_checksums(model)
    damage(model, name, content)
    with pytest.raises(AdminError, match=r"cannot (be loaded|translate): ") as error:
        list(translate(LINES, options(model)))
    assert "\n" not in str(error.value) and model in str(error.value)


@pytest.mark.parametrize("name", ["model.bin", "config.json", "admin_fairseq.json"])
def test_a_fifo_is_refused_at_once(model, name):
    os.remove(os.path.join(model, name))
    os.mkfifo(os.path.join(model, name))
    with pytest.raises(AdminError, match=f"{name}: cannot be read: not a regular file"):
        translate(LINES, options(model))


@pytest.mark.parametrize("option", ["beam", "max-len-b", "max-tokens", "inter-threads"])
@pytest.mark.parametrize("value", ["0", "-1", "", "nan", "9" * 30, "9" * 5000, "²"])
def test_options_have_bounds(option, value):
    with pytest.raises(SystemExit, match=f"--{option}: .*not a whole number from 1") as error:
        cli.main(["translate", "nowhere", f"--{option}={value}"])
    assert len(str(error.value)) < 400


def test_threads_have_bounds_together(model):
    with pytest.raises(AdminError, match="--inter-threads 33 with --intra-threads 32"):
        translate(
            LINES, TranslationOptions(model, device="cpu", inter_threads=33, intra_threads=32)
        )


@pytest.mark.parametrize(
    ("text", "told"), [(b"a\n\xff\n", "not UTF-8"), (b"a" * (1 << 20), "a line has 1,048,576")]
)
def test_input_that_is_no_text_is_told(model, monkeypatch, text, told):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(SystemExit, match=told):
        cli.main(["translate", model, "--device", "cpu", "--inter-threads", "1"])
