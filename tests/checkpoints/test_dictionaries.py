import pytest
import torch

from admin_fairseq import pieces
from admin_fairseq.checkpoints.dictionaries import data_bin
from admin_fairseq.errors import AdminError

TASK = {"source_lang": "de", "target_lang": "en"}


@pytest.fixture
def folder(tmp_path):
    """dict.de.txt with 3 + 4 types, dict.en.txt with 5 + 4: fairseq adds four of its own."""
    for language, types in (("de", 3), ("en", 5)):
        lines = "".join(f"word{i} {10 - i}\n" for i in range(types))
        (tmp_path / f"dict.{language}.txt").write_text(lines)
    return tmp_path


def embeddings(source, target):
    return {
        "encoder.embed_tokens.weight": torch.zeros(source, 2),
        "decoder.embed_tokens.weight": torch.zeros(target, 2),
    }


def test_dictionaries_of_the_model_pass(folder):
    data_bin(str(folder), TASK).check(embeddings(7, 9))
    data_bin(str(folder), TASK, "en", "de").check(embeddings(9, 7))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((8, 9), r"dict.de.txt: 7 types, but the checkpoint's encoder .* 8"),
        ((7, 8), "dict.en.txt: 9 types"),
    ],
)
def test_dictionary_of_another_size(folder, sizes, message):
    with pytest.raises(AdminError, match=message):
        data_bin(str(folder), TASK).check(embeddings(*sizes))


def test_a_model_without_embeddings(folder):
    with pytest.raises(AdminError, match="damaged checkpoint: encoder"):
        data_bin(str(folder), TASK).check({})


def test_languages_are_found_out_where_they_can_be(folder):
    with pytest.raises(AdminError, match=r"no translation data .* give --source-lang and"):
        data_bin(str(folder), {})
    (folder / "test.de-en.de.idx").touch()
    found = data_bin(str(folder), {})
    assert (found.source_lang, found.target_lang) == ("de", "en")


def test_the_folder_of_prepare_holds_the_data_below(folder):
    folder.rename(folder.with_name("bin"))
    folder.mkdir()
    folder.with_name("bin").rename(folder / "bin")
    for task in ({}, TASK):
        with pytest.raises(AdminError, match=rf"; give {folder}/bin[?]"):
            data_bin(str(folder), task).check(embeddings(7, 9))


def test_what_is_no_data_folder(folder, tmp_path):
    with pytest.raises(AdminError, match="must be the folder that fairseq-preprocess wrote"):
        data_bin(str(tmp_path / "none"), TASK)
    with pytest.raises(AdminError, match=r"dict.fr.txt: cannot be read"):
        data_bin(str(folder), TASK, "fr").check(embeddings(7, 9))
    (folder / "dict.de.txt").write_text("a line without a count\n")
    with pytest.raises(AdminError, match=r"dict.de.txt: not a dictionary"):
        data_bin(str(folder), TASK).check(embeddings(7, 9))


def test_a_language_model_has_no_languages(folder):
    for given in (("de", None), (None, "en")):
        with pytest.raises(AdminError, match="a language model has no languages"):
            data_bin(str(folder), {"_name": "language_modeling"}, *given)


def test_pieces_of_another_model(folder, monkeypatch):
    found = data_bin(str(folder), TASK)
    words = [f"word{i}" for i in range(5)]
    for known, told in (
        (words[2:], r"has only 1 of the 3 pieces in .*dict\.de\.txt"),
        (words[:4], r"has only 4 of the 5 pieces in .*dict\.en\.txt"),
        (["<s>", "<pad>", "</s>", "<unk>"], r"has only 0 of the 3 pieces in .*dict\.de\.txt"),
    ):
        monkeypatch.setattr(pieces, "vocabulary", lambda path, known=known: known)
        with pytest.raises(AdminError, match=f"^other.model: {told}; --sentencepiece-model must"):
            found.check_pieces("other.model")
    with open(folder / "dict.de.txt", "a") as file:
        file.write("☃ 1\n▁ß 1\nmadeupword0000 0\n")  # the model need not know them
    monkeypatch.setattr(pieces, "vocabulary", lambda path: [*words, "▁other"])
    found.check_pieces("its.model")
