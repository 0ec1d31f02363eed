from types import SimpleNamespace

import pytest
import torch
from fairseq.data import Dictionary
from fairseq.models import build_model
from torch.utils.flop_counter import FlopCounterMode

from admin_fairseq.benchmarks.flops import Tokens, peak_of_device, training_flops
from admin_fairseq.benchmarks.options import Workload
from admin_fairseq.benchmarks.sides import stock


@pytest.fixture
def plain_attention():
    """Attention as two matrix products, which torch can count."""
    cuda = torch.backends.cuda
    cuda.enable_flash_sdp(False)
    cuda.enable_mem_efficient_sdp(False)
    yield
    cuda.enable_flash_sdp(True)
    cuda.enable_mem_efficient_sdp(True)


def test_as_many_as_torch_counts(plain_attention):
    dictionary = Dictionary()
    for i in range(20):
        dictionary.add_symbol(f"word{i}")
    task = SimpleNamespace(source_dictionary=dictionary, target_dictionary=dictionary)
    words = ("--decoder-ffn-embed-dim", "48", "--dropout", "0")
    workload = Workload(
        arch="admin_transformer_tiny", encoder_layers=3, decoder_layers=2, cpu=True, words=words
    )
    options = stock(workload).run.model
    model = build_model(options, task).train()
    source = torch.randint(5, 20, (4, 9))
    batch = {
        "src_tokens": source,
        "src_lengths": torch.full((4,), 9),
        "prev_output_tokens": torch.randint(5, 20, (4, 7)),
    }
    with FlopCounterMode(display=False) as counter:
        model(**batch)[0].sum().backward()
    tokens = Tokens.of({"net_input": batch}, dictionary, dictionary)
    assert tokens == Tokens(4 * 9, 4 * 7, 4 * 81, 4 * 49, 4 * 63)
    assert training_flops(options, len(dictionary), tokens) == counter.get_total_flops()


def test_padding_is_not_counted():
    dictionary = Dictionary()
    pad = dictionary.pad()
    batch = {
        "src_tokens": torch.tensor([[pad, 5, 2], [5, 5, 2]]),
        "prev_output_tokens": torch.tensor([[2, pad], [2, 5]]),
    }
    tokens = Tokens.of({"net_input": batch}, dictionary, dictionary)
    assert tokens == Tokens(2 + 3, 1 + 2, 4 + 9, 1 + 4, 2 + 6)


@pytest.mark.parametrize(
    ("name", "tera"),
    [
        ("NVIDIA A100-SXM4-40GB", 312),
        ("Tesla V100-PCIE-16GB", 112),
        ("Tesla V100-SXM2-32GB", 125),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA L40S", 362),
        ("NVIDIA L4", 121),
        ("NVIDIA A10G", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_peak_of_devices(name, tera):
    assert peak_of_device(name) == (tera and tera * 1e12)
