"""--compile: the same numbers, and no new form for every batch."""

import shutil
from functools import partial
from itertools import product

import pytest
import torch
from torch._dynamo import config
from torch._inductor import config as inductor_config

from admin_fairseq.benchmarks.trainers import compiled_graphs
from admin_fairseq.errors import AdminError
from admin_fairseq.fast import compiling
from admin_fairseq.layers.transformer_stack import on_reference_kernels

from ..conftest import sentences, wants_more_than_torch_2_1
from ..layers.test_transformer_layer import moved
from ..layers.test_transformer_stack import assert_same, step

pytestmark = [pytest.mark.slow, wants_more_than_torch_2_1("its compiler stops at our layers")]
SIZES = {"encoder_layers": 2, "decoder_layers": 3, "dropout": 0.0}


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile wants a C++ compiler")
@pytest.mark.skipif(
    " " in torch.__path__[0], reason="torch.compile wants torch in a folder without spaces"
)
def test_compiled_layers_give_the_same(build, task):
    plain, compiled = (moved(build(compile=c, **SIZES)).train() for c in (False, True))
    compiled.load_state_dict(plain.state_dict(), strict=True)
    before = compiled_graphs()
    for seed, lengths in enumerate([([5, 5], [4, 4]), ([6, 2, 4], [7, 3, 1])]):
        batch = sentences(task.source_dictionary, *lengths, seed=seed)
        assert_same(step(compiled, batch), step(plain, batch), 1e-5)
    assert compiled_graphs() > before
    assert torch.equal(compiled.eval()(**batch)[0], plain.eval()(**batch)[0])


@pytest.fixture
def dynamo_alone(monkeypatch):
    """Forms are made, but not turned into machine code."""
    compiling._compiled.cache_clear()
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    with config.patch(fail_on_recompile_limit_hit=True):
        yield
    compiling._compiled.cache_clear()
    torch._dynamo.reset()


def test_forms_are_those_of_the_layouts(dynamo_alone, build, task):
    """One for each, though torch gives up after eight if let; none for each batch's sizes."""
    model = build(compile=True, checkpoint_activations=True, **SIZES).train()
    before = compiled_graphs()
    sources = [9, 9, 9], [9, 1, 9], [20, 20, 19]  # no padding, enough to pack, some
    targets = [8, 8, 8], [8, 1, 8], [21, 21, 20]
    for seed, pair in enumerate(product(sources, targets)):
        step(model, sentences(task.source_dictionary, *pair, seed=seed))
    forms = compiled_graphs() - before
    assert forms <= 2 * (3 + 9 + 2)  # with and without gradients; two for sizes that meet
    for seed in range(20):
        torch.manual_seed(seed)
        pair = torch.randint(2, 12, (2, int(torch.randint(2, 7, ())))).tolist()
        step(model, sentences(task.source_dictionary, *pair, seed=seed))
    assert compiled_graphs() - before <= forms + 4


def test_what_looks_on_sees_the_layers_as_they_are(dynamo_alone, build, batch):
    model, before = build(compile=True).train(), compiled_graphs()
    with on_reference_kernels(model):
        model(**batch)
    assert compiled_graphs() == before
    model(**batch)
    assert compiled_graphs() > before


def test_where_nothing_can_be_compiled_one_line_says_so(build, task):
    model = build(compile=True).train()
    batch = sentences(task.source_dictionary, [3, 4], [5, 6], seed=0)
    nowhere = inductor_config.patch(
        {"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True}
    )
    with nowhere, pytest.raises(AdminError, match=r"no-such-compiler.*--compile") as caught:
        model(**batch)
    assert "\n" not in str(caught.value)
