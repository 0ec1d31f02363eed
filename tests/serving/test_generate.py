import io
import json
import logging
import os
import pty
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator

from admin_fairseq import cli, serving
from admin_fairseq.checkpoints import building
from admin_fairseq.errors import AdminError
from admin_fairseq.pieces import Subwords, learn, load, vocabulary
from admin_fairseq.serving.export import export_ctranslate2
from admin_fairseq.serving.generate import GenerationOptions, generate, stream

from .conftest import of_pieces

ctranslate2 = pytest.importorskip("ctranslate2", reason="CTranslate2 is an optional extra")

LINES = ["word1 word2 word3", "", "word4", "word5 word5", "word7 word8 word9 word1 word2"]


@pytest.fixture
def state(language_model):
    """A checkpoint that often ends a line, and never likes padding, which fairseq's search leaves
    out only after the softmax."""
    state = language_model(max_target_positions=12)
    weights = state["model"]
    norm = "decoder.layers.1.final_layer_norm"
    weight, bias = weights[f"{norm}.weight"], weights[f"{norm}.bias"]
    # normalised channels sum to 0, so that this row adds 1 to a logit, through the bias
    row = 1 / weight / (1 / weight).dot(bias)
    projection = weights["decoder.output_projection.weight"]
    projection[1] = -30 * row
    projection[2] += 2.5 * row
    return state


@pytest.fixture
def model(state, text, tmp_path):
    export_ctranslate2(state, "x.pt", text, str(tmp_path / "model"))
    return str(tmp_path / "model")


def options(model, **more):
    return GenerationOptions(model, device="cpu", inter_threads=1, **more)


def fairseqs(state, task, line, beam, **search):
    """What fairseq's search makes of a line, given as prefix tokens."""
    model = building.build(state["cfg"]["model"], state["model"])
    dictionary = task.target_dictionary
    prefix = dictionary.encode_line(line, add_if_not_exist=False, append_eos=False).long()[None]
    source = torch.cat([torch.tensor([[dictionary.eos()]]), prefix], 1)
    sample = {"net_input": {"src_tokens": source, "src_lengths": torch.tensor([source.size(1)])}}
    search = {"max_len": model.max_positions(), **search}
    generator = SequenceGenerator([model], dictionary, beam_size=beam, **search)
    found = generator.generate([model], sample, prefix_tokens=prefix if line else None)
    return dictionary.string(found[0][0]["tokens"])


@pytest.mark.parametrize(
    ("beam", "ours", "theirs"),
    [
        (1, {}, {}),
        (1, {"max_len_b": 8, "min_len": 8}, {"max_len_b": 8, "min_len": 8}),
        (2, {}, {}),
        (2, {"max_len_b": 7}, {"max_len_b": 7}),
        (2, {"lenpen": 2.0}, {"len_penalty": 2.0}),
    ],
)
def test_lines_go_on_as_in_fairseq(model, state, task, beam, ours, theirs):
    expected = [fairseqs(state, task, line, beam, **theirs) for line in LINES]
    assert list(generate(LINES, options(model, beam=beam, **ours))) == expected


def test_padding_is_never_generated(state, text, tmp_path):
    projection = state["model"]["decoder.output_projection.weight"]
    projection[1] *= -1  # now it is the likeliest
    export_ctranslate2(state, "x.pt", text, str(tmp_path / "model"))
    for more in ({}, {"beam": 2}, {"sampling": True}):
        assert "blank" not in "".join(generate(LINES, options(str(tmp_path / "model"), **more)))


def test_a_character_of_two_pieces_is_shown_when_it_is_complete(model, monkeypatch):
    def decode(pieces):
        return "é" * (len(pieces) // 2) + "\ufffd" * (len(pieces) % 2)

    monkeypatch.setattr(serving.generate, "subwords_of", lambda *_: Subwords(str.split, decode))
    for longest in (6, 7):
        parts = list(stream([""], options(model, max_len_b=longest, min_len=longest)))
        assert "".join(parts) == decode(range(longest)) + "\n"
        assert "\ufffd" not in "".join(parts[:-1])


def test_a_line_for_every_line_in_order_as_they_are_read(model):
    expected = list(generate(LINES, options(model)))
    assert list(generate(LINES * 9, options(model, batch_size=2, beam=1))) == expected * 9
    read = []
    lines = generate((read.append(n) or LINES[n % 5] for n in range(900)), options(model))
    assert next(lines) == expected[0] and len(read) < 900


@pytest.mark.parametrize("more", [{}, {"max_len_b": 6, "min_len": 6}])
def test_parts_make_up_the_same_lines(model, more):
    parts = list(stream(LINES, options(model, **more)))
    assert "".join(parts).splitlines() == list(generate(LINES, options(model, **more)))
    assert len(parts) > 3 * len(LINES)
    with pytest.raises(AdminError, match="--beam above 1"):
        stream(LINES, options(model, beam=2))


def test_a_generated_newline_stays_on_its_line(tmp_path):
    path = str(tmp_path / "bytes.model")
    learn(["word1 word2 word3"] * 9, path, 274, kind="bpe", byte_fallback=True)
    subwords = load(path)
    assert "<0x0A>" in vocabulary(path)
    around = subwords.encode("word1"), subwords.encode("word2")
    assert subwords.decode([*around[0], "<0x0A>", *around[1]]) == "word1  word2"


def test_parts_of_plain_text(state, text, tmp_path, subwords):
    of_pieces(text)
    export_ctranslate2(state, "x.pt", text, str(tmp_path / "of pieces"))
    plain = options(str(tmp_path / "of pieces"), sentencepiece_model=subwords)
    lines = ["word1 word2", "unheard of", ""]
    found = "".join(stream(lines, plain)).splitlines()
    assert found == list(generate(lines, plain)) and found[0].startswith("word1 word2")


def test_a_prompt_stays_as_it_is_written(model):
    for line in generate(["word1 unknown </s> word2"], options(model)):
        assert line.startswith("word1 unknown </s> word2 ")


@pytest.mark.parametrize(("limit", "longest"), [(200, 11), (5, 5)])
def test_too_long_a_prompt_is_cut_with_a_warning(model, caplog, limit, longest):
    long = " ".join(["word3"] * 40)
    with caplog.at_level(logging.WARNING, "admin_fairseq"):
        found = list(generate(["word1", long], options(model, max_len_b=limit)))
        parts = stream(["word1", long], options(model, max_len_b=limit))
        assert "".join(parts).splitlines() == found
    assert f"line 2 has 40 pieces; only the first {longest} are read" in caplog.text
    assert found[1].split() == ["word3"] * longest and len(found[0].split()) <= longest


def drawn(model, **more):
    return list(generate([""] * 3000, options(model, max_len_b=1, sampling=True, **more)))


@pytest.mark.parametrize(
    ("more", "among"),
    [
        ({}, 24),
        ({"temperature": 2.0}, 24),
        ({"sampling_topk": 3}, 3),
        ({"sampling_topp": 0.5}, None),
        ({"sampling_topp": 0.5, "temperature": 2.0}, None),
    ],
)
def test_samples_have_the_models_probabilities(model, state, task, more, among):
    original = building.build(state["cfg"]["model"], state["model"])
    dictionary = task.target_dictionary
    with torch.no_grad():
        logits = original(torch.tensor([[dictionary.eos()]]))[0][0, -1]
    logits[[dictionary.eos(), dictionary.pad()]] = -torch.inf  # neither can be the first piece
    p, order = (logits / more.get("temperature", 1)).softmax(0).sort(descending=True)
    if among is None:
        among = int(p.cumsum(0).lt(0.5).sum()) + 1
    expected = p[:among] / p[:among].sum()
    counts = Counter(drawn(model, seed=1, **more))
    shares = torch.tensor([counts[dictionary[token]] / 3000 for token in order[:among].tolist()])
    if dictionary.bos() in order[:among]:  # not shown
        shares[order[:among] == dictionary.bos()] = counts[""] / 3000
    assert shares.sum() == pytest.approx(1)
    assert (shares - expected).abs().max() < 0.04  # four standard deviations


def test_seeds_repeat_samples(model):
    first = drawn(model, seed=7)
    assert drawn(model, seed=7) == first != drawn(model, seed=8)
    assert drawn(model) != drawn(model)


def test_the_likeliest_of_several_samples(model):
    def score(lines):
        generator = ctranslate2.Generator(model, device="cpu")
        scored = generator.score_batch([["</s>", *line.split(), "</s>"] for line in lines])
        return sum(sum(each.log_probs) / len(each.log_probs) for each in scored)

    one, best = (
        list(generate([""] * 50, options(model, sampling=True, seed=1, beam=beam)))
        for beam in (1, 8)
    )
    assert score(best) > score(one) + 5


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"sampling_topk": 5}, "--sampling-topk has no effect without --sampling"),
        ({"temperature": 0.5}, "--temperature has no effect without --sampling"),
        ({"seed": 0}, "--seed has no effect without --sampling"),
        ({"min_len": 12}, "--min-len 12: the longest line has 11 pieces"),
        ({"sampling": True, "sampling_topk": 25}, r"\(25\) is greater than the vocabulary size"),
    ],
)
def test_options_that_contradict_each_other(model, more, message):
    with pytest.raises(AdminError, match=message):
        list(generate(LINES, options(model, **more)))


def test_seeds_need_one_worker(model):
    several = GenerationOptions(model, device="cpu", sampling=True, seed=1, inter_threads=2)
    with pytest.raises(AdminError, match="--seed repeats samples with one worker only"):
        generate(LINES, several)


@pytest.mark.parametrize(
    "word",
    [
        *("--temperature=nan", "--temperature=0", "--sampling-topp=0", "--sampling-topp=1.1"),
        *("--seed=-1", "--seed=4294967295", "--beam=0", "--batch-size=0", "--lenpen=inf"),
    ],
)
def test_options_have_bounds(word):
    name = word.partition("=")[0]
    with pytest.raises(SystemExit, match=f"{name}: .* is not a") as error:
        cli.main(["generate", "nowhere", word])
    assert "\n" not in str(error.value)


def test_models_of_the_other_kind_name_the_other_command(checkpoint, data, model, tmp_path):
    export_ctranslate2(checkpoint(), "x.pt", data, str(tmp_path / "translation"))
    with pytest.raises(AdminError, match="a translation model; use admin-fairseq translate"):
        generate(LINES, options(str(tmp_path / "translation")))
    with pytest.raises(SystemExit, match="a language model; use admin-fairseq generate"):
        cli.main(["translate", model])


@pytest.mark.parametrize("name", ["model.bin", "config.json", "vocabulary.json"])
def test_a_flipped_bit_is_told_before_anything_is_generated(model, name):
    with open(os.path.join(model, name), "r+b") as file:
        content = bytearray(file.read())
        content[len(content) // 2] ^= 1
        file.seek(0)
        file.write(content)
    with pytest.raises(AdminError, match=f"{name}: changed or damaged since the export"):
        generate(LINES, options(model))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        *(("config.json", text) for text in ("", "[]", "{}", '{"bos_token": 5}', "[" * 100_000)),
        *(("config.json", f'{{"bos_token": "{bos}", "eos_token": "e"}}') for bos in ("", "x")),
        *(("vocabulary.json", text) for text in ("", "null", "[1]", '["a"]', "{}")),
        ("model.bin", ""),
    ],
)
def test_a_damaged_model_without_checksums_gets_one_line(model, name, content):
    path = os.path.join(model, "admin_fairseq.json")
    with open(path) as file:
        description = json.load(file)
    with open(path, "w") as file:
        json.dump({**description, "checksums": {}}, file)
    with open(os.path.join(model, name), "w") as file:
        file.write(content)
    with pytest.raises(AdminError) as error:
        list(generate(LINES, options(model, beam=2)))
    assert "\n" not in str(error.value) and model in str(error.value)


@pytest.fixture
def command(model, monkeypatch):
    """command(input, *words) → what admin-fairseq generate writes."""

    def command(content, *words):
        written = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        monkeypatch.setattr(sys, "stdout", written)
        cli.main(["generate", model, "--device", "cpu", "--inter-threads", "1", *words])
        return written.buffer.getvalue().decode()

    return command


def test_the_command_writes_whole_lines(command, model):
    found = command("\r\n".join(LINES).encode())
    assert found == "".join(f"{line}\n" for line in generate(LINES, options(model)))
    assert command(b"") == ""
    assert command("wörd\n".encode(), "--beam", "2").startswith("wörd word")


@pytest.mark.parametrize(
    ("content", "told"), [(b"a\n\xff\n", "not UTF-8"), (b"a" * (1 << 20), "a line has 1,048,576")]
)
def test_input_that_is_no_text_is_told(command, content, told):
    with pytest.raises(SystemExit, match=told):
        command(content)


def test_a_terminal_shows_each_piece_as_it_is_made(model, monkeypatch):
    ours, theirs = pty.openpty()
    shown = os.fdopen(theirs, "w", encoding="ascii")
    monkeypatch.setattr(sys, "stdout", shown)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"word1\nword2\n")))
    flushed = []
    monkeypatch.setattr(cli, "_show", lambda text, **how: flushed.append((text, how)))
    cli.main(["generate", model, "--device", "cpu"])
    expected = list(generate(["word1", "word2"], options(model)))
    assert "".join(text for text, _ in flushed) == "".join(f"{line}\n" for line in expected)
    assert len(flushed) > 10 and all(how["flush"] and not how["end"] for _, how in flushed)
    shown.close()
    os.close(ours)
