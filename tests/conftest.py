"""Fixtures that several tests share."""

import gc
import os
from contextlib import nullcontext
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models import build_model

import admin_fairseq  # noqa: F401  registers the models, optimisers and schedules
from admin_fairseq.config import AdminTransformerConfig
from admin_fairseq.fast import graphs

if not torch.cuda.is_available():
    # Triton reads this when it is first imported; its kernels then run on a CPU, if slowly
    os.environ.setdefault("TRITON_INTERPRET", "1")

gc.freeze()  # what is imported stays: collections need not look at it again

TORCH = tuple(map(int, torch.__version__.split(".")[:2]))
HALF = [torch.bfloat16]
if TORCH >= (2, 3):
    HALF.append(torch.float16)  # before, torch cannot multiply it on a CPU


def wants_more_than_torch_2_1(what):
    """Leaves a test out where torch 2.1 is known to fail (docs/limits.md, Versions)."""
    return pytest.mark.skipif(TORCH < (2, 2), reason=f"torch 2.1 fails: {what}")


@pytest.fixture(scope="session")
def task():
    """As much of a translation task as a model asks for; both languages share a dictionary."""
    dictionary = Dictionary()
    for i in range(20):
        dictionary.add_symbol(f"word{i}")
    return SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)


@pytest.fixture(scope="session")
def build(task):
    """Builds a small model by hand: build("tfixup_transformer_tiny", encoder_layers=12, ...)."""

    def build(arch: str = "admin_transformer_tiny", **options):
        return build_model(AdminTransformerConfig(_name=arch, **options), task)

    return build


def held(model):
    """Name → tensor: parameters, and the ω and α that a scheme keeps in buffers."""
    scales = {name: kept for name, kept in model.named_buffers() if ".residuals." in name}
    return {**dict(model.named_parameters()), **scales}


def exact_softmax():
    """Within it fairseq's attention is exact: else its softmax is float32, whatever all else is."""
    return patch("fairseq.utils.softmax", lambda x, dim, onnx_trace=False: x.softmax(dim))


def sentences(dictionary, source_lengths, target_lengths, seed):
    """Random sentences, source padded on the left and target on the right, as fairseq does."""
    generator = torch.Generator().manual_seed(seed)

    def rows(lengths):
        size = (len(lengths), max(lengths))
        return torch.randint(dictionary.nspecial, len(dictionary), size, generator=generator)

    source, target = rows(source_lengths), rows(target_lengths)
    for row, length in zip(source, source_lengths):
        row[-1] = dictionary.eos()
        row[: len(row) - length] = dictionary.pad()
    for row, length in zip(target, target_lengths):
        row[0] = dictionary.eos()
        row[length:] = dictionary.pad()
    return {
        "src_tokens": source,
        "src_lengths": torch.tensor(source_lengths),
        "prev_output_tokens": target,
    }


@pytest.fixture
def batch(task):
    """A model's input: three sentence pairs of different lengths."""
    return sentences(task.source_dictionary, [7, 5, 4], [4, 6, 5], seed=11)


@pytest.fixture
def other_batch(task):
    """Another batch, of another shape."""
    return sentences(task.source_dictionary, [9, 2], [3, 8], seed=12)


def pytest_collection_modifyitems(items):
    """What runs real commands is slow: each of them takes seconds to start."""
    for item in items:
        if {"integration", "scripts"} & set(item.path.parts[-3:]):
            item.add_marker("slow")


@pytest.fixture
def recordings(monkeypatch):
    """In place of CUDA graphs, for models on a CPU: runs again what a graph would launch again."""

    def recorded(function, pool):
        def again():
            with torch.enable_grad():
                function()

        again()
        return again

    monkeypatch.setattr(graphs, "recorded", recorded)
    monkeypatch.setattr(graphs, "new_pool", lambda: None)
    monkeypatch.setattr(graphs, "on_another_stream", lambda function: function())
    monkeypatch.setattr(graphs, "unchanged_randomness", nullcontext)
