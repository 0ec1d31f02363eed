import shlex
from types import SimpleNamespace

import pytest
import torch
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import (
    OutOfMemory,
    check_batch,
    naming_errors,
    naming_out_of_memory,
    parse,
    telling_of_data,
    words_of,
)
from admin_fairseq.profiling.run import _first_batches

RUN = OmegaConf.create(
    {
        "task": {"data": "bin"},
        "dataset": {"max_tokens": 7, "curriculum": 0},
        "distributed_training": {"fix_batches_to_gpus": False},
    }
)


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileNotFoundError("Dataset not found: train (bin)"), "bin: Dataset not found: train"),
        (PermissionError(13, "Permission denied", "bin/x.bin"), "bin/x.bin: Permission denied"),
        (AssertionError("Source and target must"), "bin: Source and target must"),
        (IndexError("list index out of range"), "bin: no sentence fits into --max-tokens 7"),
    ],
)
def test_what_fairseq_raises_over_data_is_told_in_one_line(error, message):
    def raise_(**_):
        raise error

    trainer = SimpleNamespace(get_train_iterator=raise_)  # also as profiling begins
    with pytest.raises(AdminError, match=message):
        next(_first_batches(trainer, RUN, 1))
    with pytest.raises(AdminError, match=message), telling_of_data(RUN):
        raise error


@pytest.mark.parametrize("error", [ZeroDivisionError, AssertionError])
def test_other_errors_are_not_the_datas(error):
    with pytest.raises(error), telling_of_data(RUN):
        raise error


def batch(source, target=5):
    inputs = {"src_tokens": torch.tensor([[4, source]])}
    inputs["prev_output_tokens"] = torch.tensor([[2, target]])
    return {"net_input": inputs, "target": torch.tensor([[target, 2]])}


def test_tokens_that_the_dictionaries_have(task):
    last = len(task.source_dictionary) - 1
    check_batch(batch(last, last), task, RUN)
    monolingual = {"net_input": {"src_tokens": torch.tensor([[last]])}}
    check_batch(monolingual, task, RUN)


@pytest.mark.parametrize("tokens", [(10**4, 5), (-1, 5), (5, 10**4), (5, -1)])
def test_tokens_beyond_the_dictionaries_are_told(task, tokens):
    with pytest.raises(AdminError, match=r"bin: token numbers outside a dictionary of 24 types"):
        check_batch(batch(*tokens), task, RUN)


def test_data_without_targets_is_told(task):
    with pytest.raises(AdminError, match="bin: the files of the target language are missing"):
        check_batch({**batch(5), "target": None}, task, RUN)


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2 GiB",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.",
    ],
)
def test_out_of_memory_in_one_line(words):
    with pytest.raises(OutOfMemory), naming_out_of_memory():
        raise RuntimeError(words)


def test_errors_that_are_not_of_memory_stay():
    with pytest.raises(RuntimeError, match="shapes"), naming_out_of_memory():
        raise RuntimeError("shapes do not fit")


def test_python_may_run_out_of_memory_too():
    with pytest.raises(OutOfMemory, match="try a smaller --max-tokens"), naming_out_of_memory():
        raise MemoryError


def test_what_fairseq_raises_over_options_is_told_with_the_model():
    told = pytest.raises(AdminError, match="this model: fairseq cannot build it: ValueError")
    with told, naming_errors("this model", "build"):
        raise ValueError
    with pytest.raises(OutOfMemory), naming_errors("this model", "build"):
        raise RuntimeError("CUDA out of memory")


COMMANDS = [
    "--task translation --arch admin_transformer_wmt_en_de --encoder-layers 60 --lr 7e-4 "
    "--source-lang en --target-lang fr --share-all-embeddings --optimizer radam --clip-norm 0.5 "
    "--adam-betas '(0.9, 0.98)' --lr-scheduler inverse_sqrt --warmup-updates 8000 --dropout 0.2 "
    "--criterion label_smoothed_cross_entropy --label-smoothing 0.1 --update-freq 2,4 --seed 7 "
    "--max-tokens 5000 --fp16 --memory-efficient-fp16",
    "--arch transformer_iwslt_de_en --optimizer sgd --momentum 0.9 --lr 0.1,0.2 --batch-size 8",
    "--arch admin_transformer_tiny --init-type dlcl --decoder-learned-pos --max-epoch 9 "
    "--optimizer adam --lr-scheduler fixed --criterion label_smoothed_cross_entropy_chunked",
    "--task language_modeling --arch preln_transformer_lm_gpt --tokens-per-sample 64 --lr 1",
    "--task masked_lm --criterion masked_lm --arch admin_transformer_mlm --encoder-layers 24 "
    "--optimizer adam --encoder-learned-pos --bert-init",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_in_words_is_the_same_run(command):
    def run(words):
        nested = convert_namespace_to_omegaconf(parse(["data", *words]))
        return OmegaConf.to_container(nested, resolve=True, enum_to_str=True)

    given = shlex.split(command)
    words = words_of(run([*given, "--log-interval", "7", "--save-dir", "x", "--patience", "3"]))
    assert {word for word in given if word.startswith("--")} <= set(words)
    assert not {"data", "--log-interval", "--save-dir", "--patience"}.intersection(words)
    assert run(words) == run(given)


def test_choices_that_are_not_known_are_told():
    with pytest.raises(AdminError, match="no_such_loss"):
        words_of({"model": {"_name": "transformer"}, "criterion": {"_name": "no_such_loss"}})
    with pytest.raises(AdminError, match="fairseq-train's options: "):
        words_of({"model": {"_name": "transformer_lm"}, "task": {"_name": "translation"}})
