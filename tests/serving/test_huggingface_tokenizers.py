"""Tokenizers whose ids are those of fairseq."""

import gzip
import re

import pytest
from fairseq.data import Dictionary

from admin_fairseq import pieces
from admin_fairseq.errors import AdminError
from admin_fairseq.serving.huggingface_tokenizers import check_ids, subwords
from tests.integration.shims import ROOT

from .huggingface_exports import HF


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
