"""What fairseq takes from numpy, and numpy no longer has."""

import ast
from pathlib import Path
from types import SimpleNamespace

import fairseq
import numpy as np
import pytest
import torch
from fairseq.data import (
    Dictionary,
    LanguagePairDataset,
    ListDataset,
    TokenBlockDataset,
    data_utils,
)
from fairseq.tasks.language_modeling import LanguageModelingTask

from admin_fairseq.repairs import numpy_names

FAIRSEQ = Path(fairseq.__file__).parent
SENTENCES = [torch.tensor([5, 6, 7, 2]), torch.tensor([8, 2]), torch.tensor([9, 4, 2])]
LENGTHS = [len(sentence) for sentence in SENTENCES]


def gone(path):
    """The attributes of the name ``np`` in a file that numpy does not have."""
    names = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("np", "numpy")
    }
    return {name for name in names if not hasattr(np, name)}


@pytest.mark.filterwarnings("ignore")
def test_every_module_that_lacks_a_name_is_mended():
    """Its examples, which are no modules of the package, are plugins of their own."""
    files = (f for f in FAIRSEQ.rglob("*.py") if "examples" not in f.relative_to(FAIRSEQ).parts)
    mended = {Path(module.__file__): module for module in numpy_names.MODULES}
    for file, missing in ((file, gone(file)) for file in files):
        assert not missing or file in mended, f"{file}: np.{missing}"
        assert all(hasattr(mended[file].np, name) for name in missing)


def test_numpy_itself_stays_as_it_is():
    assert data_utils.np is not np and not hasattr(np, "_original")
    assert data_utils.np.unique is np.unique


def test_samples_of_one_sentence_each():
    """--sample-break-mode eos."""
    samples = TokenBlockDataset(
        ListDataset(SENTENCES, LENGTHS), LENGTHS, block_size=None, pad=1, eos=2, break_mode="eos"
    )
    assert [sample.tolist() for sample in samples] == [s.tolist() for s in SENTENCES]


def test_what_a_language_model_is_given_to_go_on_from():
    dictionary = Dictionary()
    task = LanguageModelingTask(SimpleNamespace(), dictionary)
    samples = task.build_dataset_for_inference(SENTENCES, LENGTHS)
    batch = samples.collater([samples[0], samples[1]])
    assert batch["net_input"]["src_tokens"].tolist() == [[2, 5, 6, 7], [2, 8, 1, 1]]


def test_sentences_are_padded_to_the_lengths_of_buckets():
    """--num-batch-buckets."""
    lengths = list(range(2, 12))
    sentences = [torch.full((length,), 5) for length in lengths]
    dictionary, data = Dictionary(), ListDataset(sentences, lengths)
    pairs = LanguagePairDataset(
        *(data, np.array(lengths), dictionary) * 2, num_buckets=2, shuffle=False
    )
    assert [len(pairs[i]["source"]) for i in range(10)] == [6] * 5 + [11] * 5
    assert pairs.get_batch_shapes() == [(None, 6), (None, 11)]
