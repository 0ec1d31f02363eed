"""Step by step: caches that grow, and beam search that reorders them."""

import pytest
import torch
from fairseq import search
from fairseq.sequence_generator import SequenceGenerator
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.fast.decoding import ROOM, Memory, Past, Selection
from admin_fairseq.layers.transformer_stack import on_reference_kernels

HEADS, DIM = 2, 3


@st.composite
def histories(draw):
    """What happens to rows: a list of orders, each choosing rows among those that are there."""
    rows, steps = draw(st.integers(1, 4)), []
    for _ in range(draw(st.integers(1, 2 * ROOM + 3))):
        chosen = draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=4))
        stays = draw(st.booleans())
        steps.append(list(range(rows)) if stays else chosen)
        rows = len(steps[-1])
    return steps


@settings(deadline=None, max_examples=30)
@given(histories(), st.booleans(), st.booleans())
def test_the_past_is_what_each_rows_ancestors_said(history, grad, pads):
    width = HEADS * DIM
    past = Past(lambda x: torch.cat([x, 2 * x, 3 * x], -1), DIM)
    said, hidden = None, None  # R x t x C, R x t
    for step, order in enumerate(history):
        rows = len(order)
        if step:
            past.reorder(Selection(torch.tensor(order)))
            said, hidden = said[order], hidden[order]
        else:
            said, hidden = torch.empty(rows, 0, width), torch.zeros(rows, 0, dtype=torch.bool)
        x = torch.randn(rows, width, requires_grad=grad)
        padding = torch.rand(rows, 1) < 0.3 if pads and step % 2 else None
        said = torch.cat([said, x.detach()[:, None]], 1)
        padded = torch.zeros(rows, 1, dtype=torch.bool) if padding is None else padding
        hidden = torch.cat([hidden, padded], 1)
        found = past.look_up(x, padding)
        expected = said.unflatten(-1, (HEADS, DIM)).transpose(1, 2)
        assert torch.equal(found.query[:, :, 0], expected[:, :, -1])
        assert torch.equal(found.keys, 2 * expected) and torch.equal(found.values, 3 * expected)
        if found.mask is None:
            assert not hidden.any()
        else:
            assert torch.equal(found.mask[:, 0, 0], ~hidden | hidden.all(1, keepdim=True))


def test_fewer_rows_stay_within_the_memory_there_is():
    past = Past(lambda x: x, DIM)
    past.look_up(torch.randn(3, 3 * HEADS * DIM), None)
    kept, selection = past.kept, Selection(torch.arange(2))  # the last row is done
    past.reorder(selection)
    past.reorder(Selection(torch.tensor([1])))
    assert past.kept is kept
    assert selection.moves(None, 1, 3, capacity=3).targets.numel() == 0


def test_what_hypotheses_have_in_common_stays_where_it_is():
    past = Past(lambda x: x, DIM)
    for order in ([0, 0], [0, 1], [1, 0]):  # both go on from row 0; then they change places
        past.look_up(torch.randn(2, 3 * HEADS * DIM), None)
        origins, selection = past.origins, Selection(torch.tensor(order))
        past.reorder(selection)
    moves = selection.moves(origins, 3, 2, capacity=2)
    assert moves.origins.tolist() == past.origins.tolist() == [[0, 0], [1, 0], [1, 0]]
    assert moves.sources.tolist() == [3, 2, 5, 4] and moves.targets.tolist() == [2, 3, 4, 5]


@pytest.mark.parametrize(
    "order, sentences, hypotheses",
    [
        ([0, 1, 2, 3, 4, 5], None, 3),
        ([2, 2, 0, 3, 5, 5], None, 3),
        ([0, 1, 2], [0], 3),
        ([5, 3, 4], [1], 3),
        ([3, 3, 3, 0, 0, 1], [1, 0], 3),
        ([0, 3, 1, 4], [0, 1, 0, 1], 1),  # of different sentences side by side
        ([0, 1], [0, 0], 1),  # fewer than there were hypotheses
    ],
)
def test_memory_keeps_one_copy_of_each_sentence(order, sentences, hypotheses):
    keys = torch.arange(2.0).view(2, 1, 1, 1).expand(2, HEADS, 5, DIM)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])[:, None, None]
    memory = Memory(lambda x: x, keys, keys, mask, hypotheses=3)
    memory.reorder(Selection(torch.tensor(order)))
    kept = [0, 1] if sentences is None else sentences
    assert memory.keys[:, 0, 0, 0].tolist() == kept and memory.hypotheses == hypotheses
    assert torch.equal(memory.mask, mask[kept])
    x = torch.randn(len(order), HEADS * DIM)
    query = memory.look_up(x).query
    assert query.shape == (len(kept), HEADS, hypotheses, DIM)
    assert torch.equal(query.transpose(1, 2).reshape_as(x), x)


@pytest.fixture
def translate(build, task, batch):
    def translate(model, sampling=False, **options):
        dictionary = task.target_dictionary
        options["search_strategy"] = search.Sampling(dictionary) if sampling else None
        generator = SequenceGenerator([model], dictionary, max_len_b=20, **options)
        torch.manual_seed(1)
        found = generator.generate([model], {"net_input": {**batch}})
        return [[(h["tokens"].tolist(), float(h["score"])) for h in beam] for beam in found]

    return translate


@pytest.mark.parametrize("scheme", ["adaptive-auto", "default", "fixup", "subln", "dlcl"])
@pytest.mark.parametrize("beam, sampling", [(1, False), (2, False), (5, False), (4, True)])
def test_translations_are_those_of_fairseqs_kernels(scheme, beam, sampling, build, translate):
    """Beam search moves rows about; sampled sentences end, and leave, one after the other."""
    torch.manual_seed(beam)
    model = build(init_type=scheme, encoder_layers=2, decoder_layers=2).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
        model.decoder.output_projection.weight *= 0.1  # words of similar probability
    found = translate(model, sampling, beam_size=beam)
    with on_reference_kernels(model):
        expected = translate(model, sampling, beam_size=beam)
    if sampling:
        assert len({len(tokens) for beams in expected for tokens, _ in beams}) > 2
    for ours, theirs in zip(found, expected):
        assert [tokens for tokens, _ in ours] == [tokens for tokens, _ in theirs]
        assert [s for _, s in ours] == pytest.approx([s for _, s in theirs], abs=1e-5)


def test_gradients_flow_through_all_steps(build, batch):
    model = build(init_type="deepnet", encoder_layers=1, decoder_layers=2).double().eval()
    source = batch["src_tokens"].repeat_interleave(2, 0)  # two hypotheses for each sentence
    tokens = batch["prev_output_tokens"][:, :1].repeat(2, ROOM + 3)
    tokens[1::2] = torch.arange(4, 4 + ROOM + 3)
    order = torch.tensor([0, 0, 3, 2, 5, 5])

    def run():
        encoded, state, total = model.encoder(source), {}, 0.0
        for step in range(1, tokens.shape[1] + 1):
            logits, _ = model.decoder(tokens[:, :step], encoded, incremental_state=state)
            total = total + logits[:, -1].square().sum()
            if step % 5 == 2:
                model.decoder.reorder_incremental_state_scripting(state, order)
        model.zero_grad()
        total.backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}

    found = run()
    with on_reference_kernels(model):
        expected = run()
    assert found.keys() == expected.keys()
    for name, gradient in found.items():  # fairseq's softmax is in float32
        torch.testing.assert_close(gradient, expected[name], rtol=1e-5, atol=1e-5)


def test_prefixes_of_different_lengths(build, task, batch, translate):
    """Padding enters the past of some rows."""
    model = build(encoder_layers=1, decoder_layers=2).double().eval()
    dictionary = task.target_dictionary
    sample = {"net_input": {**batch}}
    prefix = torch.full((len(batch["src_tokens"]), 3), dictionary.pad())
    prefix[:, 0], prefix[0, 1:] = 7, 9

    def run():
        generator = SequenceGenerator([model], dictionary, beam_size=3, max_len_b=12)
        found = generator.generate([model], sample, prefix_tokens=prefix)
        return [[h["tokens"].tolist() for h in beams] for beams in found]

    found = run()
    with on_reference_kernels(model):
        assert found == run()
