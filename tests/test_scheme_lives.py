"""A life of every scheme, at equal and unequal depths: train, save, load, translate."""

import copy
import io
from types import SimpleNamespace

import pytest
import torch
from fairseq.sequence_generator import SequenceGenerator

from admin_fairseq.checkpoints import building
from admin_fairseq.config import AdminTransformerConfig, resolve
from admin_fairseq.schemes import SCHEMES

DEPTHS = [(3, 3), (6, 2)]


@pytest.fixture(scope="module")
def lives(build, task):
    """name, depths → a model after 30 updates, and what was seen on the way."""
    seen = {}

    def life(name, depths, batch):
        if name in ("adaptive-profiling", "adaptive-auto"):
            name = "adaptive"  # without a profile they are one
        if (name, depths) not in seen:
            options = {"init_type": name, "encoder_layers": depths[0], "decoder_layers": depths[1]}
            if "branchnorm_updates" in SCHEMES[name].options:
                options["branchnorm_updates"] = 10
            torch.manual_seed(1)
            model = build(dropout=0.0, **options)
            losses, gradients = train(model, batch, updates=30)
            config = resolve(AdminTransformerConfig(_name="admin_transformer_tiny", **options))
            seen[name, depths] = SimpleNamespace(
                model=model.eval(), losses=losses, gradients=gradients, options=vars(config)
            )
        return seen[name, depths]

    return life


def train(model, batch, updates):
    """The losses, and the gradients of the first update: every trained parameter has one."""
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    optimizer = torch.optim.Adam(trained.values(), lr=2e-3)
    target, losses, gradients = batch["prev_output_tokens"], [], {}
    for update in range(updates):
        model.set_num_updates(update)
        logits, _ = model(**batch)
        loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, ignore_index=1)
        optimizer.zero_grad()
        loss.backward()
        gradients = gradients or {name: copy.copy(p.grad) for name, p in trained.items()}
        optimizer.step()
        losses.append(loss.item())
    return losses, gradients


each_life = pytest.mark.parametrize("depths", DEPTHS, ids=lambda d: f"{d[0]}L-{d[1]}L")


@each_life
@pytest.mark.parametrize("name", SCHEMES)
def test_first_update_has_finite_gradients_everywhere(lives, batch, name, depths):
    gradients = lives(name, depths, batch).gradients
    assert all(g is not None and torch.isfinite(g).all() for g in gradients.values())


@each_life
@pytest.mark.parametrize("name", SCHEMES)
def test_thirty_updates_lower_the_loss(lives, batch, name, depths):
    losses = lives(name, depths, batch).losses
    assert all(loss < 20 for loss in losses)
    assert losses[-1] < 0.8 * losses[0]


@each_life
@pytest.mark.parametrize("name", SCHEMES)
def test_saved_and_loaded_it_translates_as_before(lives, batch, task, name, depths):
    life = lives(name, depths, batch)
    file = io.BytesIO()
    torch.save(life.model.state_dict(), file)
    file.seek(0)
    weights = torch.load(file, weights_only=True)
    loaded = building.build(life.options, weights)
    source = {key: batch[key] for key in ("src_tokens", "src_lengths")}
    kept, again = (
        SequenceGenerator([model], task.target_dictionary, beam_size=3, max_len_b=10).generate(
            [model], {"net_input": source}
        )
        for model in (life.model, loaded)
    )
    assert len(kept) == 3 and all(len(best[0]["tokens"]) for best in kept)
    for before, after in zip(kept, again):
        assert torch.equal(before[0]["tokens"], after[0]["tokens"])
        assert before[0]["score"] == after[0]["score"]
