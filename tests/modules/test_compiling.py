"""--compile: the same numbers, and no new form for every batch."""

import shutil

import pytest
import torch
from torch._inductor import config

from admin_fairseq.benchmarks.trainers import compiled_graphs
from admin_fairseq.errors import AdminError

from ..conftest import sentences
from .test_transformer_layer import moved
from .test_transformer_stack import assert_same, step

pytestmark = pytest.mark.slow
SHAPES = [
    ([5, 5], [4, 4]),
    ([6, 2, 4], [7, 3, 1]),
    ([3, 8, 8, 7], [5, 5, 4, 2]),
    ([9, 9, 2], [6, 6, 6]),
]


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile wants a C++ compiler")
@pytest.mark.skipif(
    " " in torch.__path__[0], reason="torch.compile wants torch in a folder without spaces"
)
def test_compiled_layers_give_the_same_and_settle(build, task):
    sizes = {"encoder_layers": 2, "decoder_layers": 3, "dropout": 0.0}
    plain, compiled = (moved(build(compile=c, **sizes)).train() for c in (False, True))
    compiled.load_state_dict(plain.state_dict(), strict=True)
    for seed, lengths in enumerate(SHAPES):
        batch = sentences(task.source_dictionary, *lengths, seed=seed)
        assert_same(step(compiled, batch), step(plain, batch), 1e-5)
    settled = compiled_graphs()
    assert settled > 0
    for seed in range(20):
        torch.manual_seed(seed)
        source, target = torch.randint(2, 12, (2, int(torch.randint(2, 7, ())))).tolist()
        step(compiled, sentences(task.source_dictionary, source, target, seed=seed))
    assert compiled_graphs() - settled <= 4, "a form for every batch"
    compiled.eval()
    batch = sentences(task.source_dictionary, *SHAPES[1], seed=0)
    assert torch.equal(compiled(**batch)[0], plain.eval()(**batch)[0])


def test_where_nothing_can_be_compiled_one_line_says_so(build, task):
    model = build(compile=True).train()
    batch = sentences(task.source_dictionary, [3, 4], [5, 6], seed=0)
    nowhere = config.patch({"cpp.cxx": ("no-such-compiler",), "force_disable_caches": True})
    with nowhere, pytest.raises(AdminError, match=r"no-such-compiler.*--compile") as caught:
        model(**batch)
    assert "\n" not in str(caught.value)
