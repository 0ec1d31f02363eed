import os

import numpy as np
import pytest
import torch
from fairseq.data import Dictionary, data_utils, indexed_dataset

from admin_fairseq.errors import AdminError

SENTENCES = [torch.tensor([4, 5, 2]), torch.tensor([6, 2])]


def binarised(folder, sentences=SENTENCES, impl="mmap"):
    """The path, without its endings, of data that fairseq wrote."""
    path = str(folder / "valid")
    builder = indexed_dataset.make_builder(f"{path}.bin", impl, vocab_size=10)
    for sentence in sentences:
        builder.add_item(sentence)
    builder.finalize(f"{path}.idx")
    return path


def opened(path):
    """As fairseq opens a split whose format nobody gave."""
    return indexed_dataset.make_dataset(path, indexed_dataset.infer_dataset_impl(path) or "cached")


@pytest.mark.parametrize("impl", ["mmap", "cached"])
def test_whole_data_is_read(tmp_path, impl):
    dataset = opened(binarised(tmp_path, impl=impl))
    assert len(dataset) == 2 and dataset.sizes.tolist() == [3, 2]


def test_no_data_is_for_fairseq_to_say(tmp_path):
    assert opened(str(tmp_path / "nothing")) is None


def changed(content, offset, new):
    return content[:offset] + new + content[offset + len(new) :]


DAMAGE = {
    "cut": (".idx", lambda content: content[:40]),
    "cut in the header": (".idx", lambda content: content[:12]),
    "empty": (".idx", lambda content: b""),
    "garbage": (".idx", lambda content: os.urandom(len(content))),
    "another version": (".idx", lambda content: changed(content, 9, b"\2")),
    "an unknown type": (".idx", lambda content: changed(content, 17, b"\x63")),
    "10^18 sentences": (".idx", lambda content: changed(content, 18, b"\xff" * 7)),
    "no sentences": (".bin", lambda content: b""),
    "tokens cut": (".bin", lambda content: content[:-1]),
}
ELSEWHERE = {
    "a length below 0": (26, np.int32(-1)),
    "a length that is too large": (30, np.int32(2**31 - 1)),
    "a place below 0": (34, np.int64(-4)),
    "a place beyond the end": (42, np.int64(2**62)),
}


def assert_told(path, ending):
    """In one line, and before an object is half made, whatever finds out or gives the format."""
    for open_ in (opened, lambda path: indexed_dataset.make_dataset(path, "mmap")):
        with pytest.raises(AdminError, match=f"{path}{ending}: ") as error:
            open_(path)
        assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_told(tmp_path, damage):
    path, (ending, damaged) = binarised(tmp_path), DAMAGE[damage]
    file = tmp_path / f"valid{ending}"
    file.write_bytes(damaged(file.read_bytes()))
    assert_told(path, ending)


@pytest.mark.parametrize("damage", ELSEWHERE)
def test_an_index_of_other_tokens_is_told(tmp_path, damage):
    path, (offset, value) = binarised(tmp_path), ELSEWHERE[damage]
    index = tmp_path / "valid.idx"
    index.write_bytes(changed(index.read_bytes(), offset, value.tobytes()))
    assert_told(path, ".bin")


def test_data_of_an_empty_text_is_told(tmp_path):
    assert_told(binarised(tmp_path, []), ".bin")


@pytest.mark.parametrize("ending", [".idx", ".bin"])
def test_nobody_waits_for_a_pipe(tmp_path, ending):
    path = binarised(tmp_path)
    os.remove(path + ending)
    os.mkfifo(path + ending)
    assert_told(path, ending)


# Folders


def test_a_folder_with_data_has_its_languages(tmp_path):
    (tmp_path / "train.de-en.de.idx").touch()
    assert data_utils.infer_language_pair(str(tmp_path)) == ["de", "en"]


def test_a_folder_without_data_is_told(tmp_path):
    with pytest.raises(AdminError, match=f"{tmp_path}: no translation data of fairseq-preprocess$"):
        data_utils.infer_language_pair(str(tmp_path))
    with pytest.raises(AdminError, match=r"none: cannot be read: No such file"):
        data_utils.infer_language_pair(str(tmp_path / "none"))


def test_the_folder_of_prepare_holds_the_data_below(tmp_path):
    (tmp_path / "bin").mkdir()
    advice = f"; give {tmp_path / 'bin'}[?]$"
    with pytest.raises(AdminError, match=advice):
        data_utils.infer_language_pair(str(tmp_path))
    with pytest.raises(AdminError, match=f"dict.txt: cannot be read.*{advice}"):
        Dictionary.load(str(tmp_path / "dict.txt"))


# Dictionaries


def test_a_dictionary_is_read(tmp_path):
    (tmp_path / "dict.txt").write_text("a 3\nb 2\n")
    assert len(Dictionary.load(str(tmp_path / "dict.txt"))) == 6
    with open(tmp_path / "dict.txt") as file:
        assert len(Dictionary.load(file)) == 6


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\xff\xfe 3\n", "Incorrect encoding"),
        (b"a\n", "expected '<token> <cnt>"),
        (b"a x\n", "expected '<token> <cnt>"),
        (b"a 3\na 2\n", "Duplicate word"),
    ],
)
def test_a_damaged_dictionary_is_told(tmp_path, content, message):
    path = tmp_path / "dict.txt"
    path.write_bytes(content)
    with pytest.raises(
        AdminError, match=f"{path}: not a dictionary of fairseq.*{message}"
    ) as error:
        Dictionary.load(str(path))
    assert len(str(error.value).splitlines()) == 1


def test_a_dictionary_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(AdminError, match=r"dict.txt: cannot be read: No such file"):
        Dictionary.load(str(tmp_path / "dict.txt"))
    os.mkfifo(tmp_path / "dict.txt")
    with pytest.raises(AdminError, match=r"dict.txt: cannot be read: not a regular file"):
        Dictionary.load(str(tmp_path / "dict.txt"))
