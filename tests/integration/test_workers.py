"""Two gloo workers on one CPU."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from fairseq.data import Dictionary
from fairseq.distributed import ModuleProxyWrapper
from fairseq.models import build_model
from torch.nn.parallel import DistributedDataParallel

from admin_fairseq.checkpoints.storage import read_checkpoint
from admin_fairseq.config import AdminTransformerConfig
from admin_fairseq.schemes import SCHEMES

from ..conftest import wants_more_than_torch_2_1
from .conftest import TRAIN, WARMUP, Output
from .shims import python


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train_on_two(run, data, save_dir, *words, script="fairseq-train"):
    method = f"tcp://127.0.0.1:{free_port()}"
    distributed = [
        *("--distributed-world-size", "2", "--distributed-init-method", method),
        *("--distributed-no-spawn", "--distributed-backend", "gloo"),
        *("--ddp-backend", "legacy_ddp", "--fast-stat-sync"),
    ]
    command = [script, data, *TRAIN, *WARMUP, "--disable-validation", *distributed]
    command += ["--arch", "admin_transformer_tiny", "--save-dir", save_dir, *words]
    with ThreadPoolExecutor(2) as pool:
        workers = [
            pool.submit(run.captured, *command, "--distributed-rank", rank) for rank in range(2)
        ]
    outputs = [worker.result() for worker in workers]
    for status, output, errors in outputs:
        assert status == 0, output[-2000:] + errors[-2000:]
    return [Output(output, errors) for _, output, errors in outputs]


def omegas(folder):
    profile = json.loads((folder / "profile.json").read_text())
    return [entry["omega"] for entry in profile["sublayers"]]


def test_omega_of_two_workers_is_that_of_one_on_the_union(run, data, tmp_path):
    two, one = tmp_path / "two", tmp_path / "one"
    outputs = train_on_two(run, data, two, "--init-type", "adaptive-profiling")
    assert "profile written to" in outputs[0].strip().splitlines()[-1]
    assert "profile written to" not in outputs[1]
    run.train(data, one, "--init-type", "adaptive-profiling", "--profile-batches", 2)
    assert omegas(two) == pytest.approx(omegas(one), rel=1e-5)
    run.train(data, one, "--init-type", "adaptive-profiling")
    assert omegas(two) != pytest.approx(omegas(one), rel=1e-5), "one batch must not be the union"


def test_two_workers_train_with_the_same_omega(run, data, tmp_path):
    """Losses are those of both workers, so equal ones mean the file's ω on both."""
    automatic, _ = train_on_two(run, data, tmp_path / "auto", "--max-update", 3)
    profile = ["--init-type", "adaptive", "--profile-path", tmp_path / "auto" / "profile.json"]
    from_file, _ = train_on_two(run, data, tmp_path / "file", *profile, "--max-update", 3)
    assert len(automatic.losses()) == 3
    assert automatic.losses() == from_file.losses()


@wants_more_than_torch_2_1("gloo cannot gather shards")
@pytest.mark.parametrize(
    "words",
    [
        ["--init-type", "adaptive-auto"],
        ["--init-type", "deepnet"],
        ["--init-type", "branchnorm", "--optimizer", "adam_fused"],
        ["--init-type", "dlcl", "--checkpoint-activations"],
    ],
    ids=lambda words: words[1],
)
def test_sharded_layers_train_as_whole_ones(words, run, data, tmp_path):
    """Bit for bit, the profile of the first batches included."""
    pytest.importorskip("fairscale", reason="sharding needs fairscale: pip install fairscale")
    shard = ["--ddp-backend", "fully_sharded", "--min-params-to-wrap", 1000]
    script = Path(__file__).with_name("fairscale_on_cpu.py")
    saved = []
    for folder, more in (("whole", {}), ("sharded", {"script": script})):
        words = [*words, *(shard if more else [])]
        train_on_two(run, data, tmp_path / folder, *words, "--max-update", 3, **more)
        saved.append(read_checkpoint(tmp_path / folder / "checkpoint_last.pt")["model"])
    whole, sharded = saved
    assert whole.keys() == sharded.keys()
    for name, weight in whole.items():
        assert torch.equal(weight, sharded[name]), name


# Every scheme; without a profile the three of Admin are one

DISTINCT = [name for name in SCHEMES if name not in ("adaptive-profiling", "adaptive-auto")]


def tiny(scheme):
    torch.manual_seed(7)
    task = SimpleNamespace(source_dictionary=Dictionary(), target_dictionary=Dictionary())
    for i in range(20):
        task.source_dictionary.add_symbol(f"word{i}")
        task.target_dictionary.add_symbol(f"word{i}")
    options = {"encoder_layers": 2, "decoder_layers": 2, "dropout": 0.0}
    name = "admin_transformer_tiny"
    config = AdminTransformerConfig(_name=name, init_type=scheme, **options)
    return build_model(config, task).double()


def update(model, optimizer, number, batches):
    """One update on the mean loss of the batches."""
    model.set_num_updates(2000 + number)  # in the midst of BranchNorm's growth
    optimizer.zero_grad()
    for tokens in batches:
        logits, _ = model(tokens, torch.tensor([tokens.size(1)] * 2), tokens)
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), tokens)
        (loss / len(batches)).backward()
    optimizer.step()


def train_every_scheme(rank, port, folder):
    """Train on the batch of this rank; with rank None alone, on the batches of both."""
    if rank is not None:
        torch.set_num_threads(1)  # the two share what cores there are
        dist.init_process_group(
            "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2
        )
    generator = torch.Generator().manual_seed(1)
    batches = torch.randint(4, 24, (2, 2, 5), generator=generator)
    mine = batches if rank is None else batches[rank : rank + 1]
    trained = {}
    for scheme in DISTINCT:
        model = tiny(scheme)
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
        wrapped = model
        if rank is not None:
            # what fairseq-train does by default
            wrapped = ModuleProxyWrapper(DistributedDataParallel(model))
        for number in range(3):
            update(wrapped, optimizer, number, mine)
        trained[scheme] = {name: p.detach() for name, p in model.named_parameters()}
    torch.save(trained, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def trained_alone_and_by_two(tmp_path_factory):
    folder, port = tmp_path_factory.mktemp("workers"), free_port()
    program = "import sys; from tests.integration.test_workers import train_every_scheme as train; "
    program += "train(int(sys.argv[1]), *sys.argv[2:])"
    with ThreadPoolExecutor(2) as pool:
        for done in pool.map(lambda rank: python(program, rank, port, folder), range(2)):
            assert done.returncode == 0, done.stderr
    train_every_scheme(None, None, str(folder))
    return [torch.load(folder / f"{rank}.pt") for rank in (None, 0, 1)]


@pytest.mark.parametrize("scheme", DISTINCT)
def test_two_workers_train_every_scheme_as_one_does_on_both_batches(
    scheme, trained_alone_and_by_two
):
    alone, first, second = (weights[scheme] for weights in trained_alone_and_by_two)
    start = dict(tiny(scheme).named_parameters())
    assert not torch.equal(
        alone["decoder.embed_tokens.weight"], start["decoder.embed_tokens.weight"]
    )
    for name, weight in alone.items():
        assert torch.equal(first[name], second[name]), name
        assert torch.allclose(first[name], weight, rtol=1e-9, atol=1e-12), name
