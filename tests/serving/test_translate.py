import logging

import pytest
import sentencepiece
import torch

from admin_fairseq.checkpoints import compare
from admin_fairseq.errors import AdminError
from admin_fairseq.serving.export import export_ctranslate2
from admin_fairseq.serving.translate import Options, translate

ctranslate2 = pytest.importorskip("ctranslate2", reason="CTranslate2 is an optional extra")

LINES = ["word1 word2 word3", "", "word4", "word5 word5", "   ", "word7 word8 word9 word1 word2"]


@pytest.fixture
def model(checkpoint, data, tmp_path):
    folder = str(tmp_path / "model")
    state = checkpoint(max_source_positions=12, max_target_positions=10)
    export_ctranslate2(state, "x.pt", data, folder)
    return folder


def options(model, **more):
    return Options(model, device="cpu", inter_threads=1, **more)


def test_every_step_takes_what_the_checkpoint_finds_likeliest(model, checkpoint, task):
    state = checkpoint(max_source_positions=12, max_target_positions=10)
    original = compare.build(state["cfg"]["model"], state["model"], "x.pt")
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
    assert "line 2 has 40 pieces, the model takes 11: its end is left out" in caplog.text
    assert found[1] == next(translate([" ".join(["word3"] * 11)], options(model)))
    assert all(len(line.split()) <= 9 for line in found)  # as many positions as the model has


def test_sentencepiece_in_and_out(model, subwords):
    processor = sentencepiece.SentencePieceProcessor(model_file=subwords)
    pieces = [" ".join(processor.encode(line, out_type=str)) for line in LINES]
    as_pieces = translate(pieces, options(model))
    expected = [processor.decode(line.split()) for line in as_pieces]
    assert list(translate(LINES, options(model, sentencepiece_model=subwords))) == expected


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
    }


def test_the_model_brings_its_subword_model(model, tmp_path):
    (tmp_path / "model" / "sentencepiece.model").write_bytes(b"damaged")
    with pytest.raises(AdminError, match=r"sentencepiece.model: not a sentencepiece model"):
        translate(LINES, options(model))
    with pytest.raises(AdminError, match=r"none.model: not a sentencepiece model"):
        translate(LINES, options(model, sentencepiece_model="none.model"))


def test_what_is_no_model(tmp_path):
    with pytest.raises(AdminError, match="not a CTranslate2 model; make one with admin-fairseq ex"):
        translate(LINES, options(str(tmp_path)))


def test_a_damaged_model(model, tmp_path):
    binary = tmp_path / "model" / "model.bin"
    binary.write_bytes(binary.read_bytes()[:1000])
    with pytest.raises(AdminError, match="cannot be loaded") as error:
        translate(LINES, options(model))
    assert "\n" not in str(error.value)
