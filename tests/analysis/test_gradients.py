import pytest
import torch
from fairseq.trainer import Trainer

from admin_fairseq.analysis.bench import Bench, Subject
from admin_fairseq.analysis.gradients import output_gradients, relative, train_steps
from admin_fairseq.analysis.options import Conditions
from admin_fairseq.errors import AdminError
from admin_fairseq.fairseq_runs import first_batches
from admin_fairseq.hooks.trace import layers_of
from admin_fairseq.studies.options import Depth


@pytest.fixture
def sgd(data):
    words = ("--optimizer", "sgd", "--lr", "0.1")
    return Bench(Conditions(data=data, max_tokens=80, cpu=True, words=words))


def test_gradients_of_layers_are_those_that_autograd_keeps(bench):
    specimen = bench.put(Subject(("postln_transformer_tiny", "--dropout", "0.3")), Depth(2, 3))
    kept = {"encoder": [], "decoder": []}

    def keep(stack):
        def hook(module, inputs, output):
            kept[stack].append(output[0] if isinstance(output, tuple) else output)
            kept[stack][-1].retain_grad()

        return hook

    model = specimen.model
    handles = [
        layer.register_forward_hook(keep(stack))
        for stack in kept
        for layer in layers_of(getattr(model, stack))
    ]
    batch = specimen.batch
    logits, _ = model(**batch["net_input"])
    logs = logits.log_softmax(-1)
    real = batch["target"].ne(specimen.task.target_dictionary.pad())
    likelihood = logs.gather(-1, batch["target"].unsqueeze(-1)).squeeze(-1)
    types = logits.size(-1)
    smooth = 0.1 / (types - 1)  # as fairseq smooths labels
    losses = -(0.9 - smooth) * likelihood - smooth * logs.sum(-1)
    (losses[real].sum() / real.sum()).backward()
    for handle in handles:
        handle.remove()
    found = output_gradients(specimen)
    for stack, sublayers in (("encoder", 2), ("decoder", 3)):
        expected = [float(output.grad.norm()) for output in kept[stack]]
        assert found[stack][sublayers - 1 :: sublayers] == pytest.approx(expected, rel=1e-4)
    assert [len(norms) for norms in found.values()] == [4, 9]


@pytest.mark.parametrize("before", [False, True])
def test_stock_and_ours_have_the_same_gradients(bench, before):
    norms = ["--encoder-normalize-before", "--decoder-normalize-before"] if before else []
    sizes = ["--encoder-embed-dim", "64", "--encoder-ffn-embed-dim", "128"]
    sizes += ["--encoder-attention-heads", "2", "--decoder-attention-heads", "2"]
    ours = bench.put(Subject((f"{'preln' if before else 'postln'}_transformer_tiny",)), Depth(2, 3))
    stock = bench.put(Subject(("transformer", *sizes, *norms)), Depth(2, 3))
    stock.model.load_state_dict(ours.model.state_dict(), strict=False)
    for stack, norms in output_gradients(ours).items():
        assert output_gradients(stock)[stack] == pytest.approx(norms, rel=1e-5)


def test_what_layerdrop_leaves_out_has_norm_zero(data):
    words = ("--encoder-layerdrop", "0.9")
    bench = Bench(Conditions(data=data, max_tokens=80, cpu=True, words=words))
    specimen = bench.put(Subject(("postln_transformer_tiny",)), Depth(3, 1))
    (gradients,) = train_steps(specimen, 1).gradients
    dropped = [sum(gradients[i : i + 6]) == 0 for i in range(0, 18, 6)]
    assert any(dropped) and all(gradients[18:])


def test_an_encoder_that_nobody_reads_has_no_gradient(data):
    bench = Bench(Conditions(data=data, max_tokens=80, cpu=True, words=("--no-cross-attention",)))
    specimen = bench.put(Subject(("postln_transformer_tiny",)), Depth(2, 2))
    gradients = output_gradients(specimen)
    assert gradients["encoder"] == [0.0] * 4 and all(gradients["decoder"])


def test_relative():
    assert relative([1.0, 4.0, 2.0]) == [0.25, 1.0, 0.5]
    assert relative([0.0, 0.0]) == [0.0, 0.0]


def test_steps_are_those_of_the_optimiser(sgd):
    specimen = sgd.put(Subject(("preln_transformer_tiny",)), Depth(1, 2))
    weights = {n: p.detach().norm().item() for n, p in specimen.model.named_parameters()}
    steps = train_steps(specimen, 3)
    assert len(steps.names) == 1 * 6 + 2 * 10
    assert steps.weights[0] == pytest.approx([weights[name] for name in steps.names], rel=1e-5)
    for gradients, updates in zip(steps.gradients, steps.updates):
        assert updates == pytest.approx([0.1 * norm for norm in gradients], rel=1e-2, abs=1e-7)
    assert len(steps.updates) == 3 and steps.gradients[0] != steps.gradients[1]
    after = dict(specimen.model.named_parameters())
    assert after[steps.names[0]].detach().norm().item() != steps.weights[0][0]


def test_optimisers_hooks_are_gone(sgd, monkeypatch):
    trainers = []

    class Kept(Trainer):
        def __init__(self, *given):
            super().__init__(*given)
            trainers.append(self)

    monkeypatch.setattr("admin_fairseq.analysis.gradients.Trainer", Kept)
    train_steps(sgd.put(Subject(("preln_transformer_tiny",)), Depth(1, 1)), 1)
    optimizer = trainers[0].optimizer.optimizer
    assert not optimizer._optimizer_step_pre_hooks and not optimizer._optimizer_step_post_hooks


def test_every_update_has_its_own_batch_of_the_training_set(sgd, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "admin_fairseq.analysis.gradients.first_batches",
        lambda *given: seen.extend(first_batches(*given)) or seen,
    )
    specimen = sgd.put(Subject(("preln_transformer_tiny",)), Depth(1, 1))
    train_steps(specimen, 3)
    assert len({str(batch["id"].tolist()) for batch in seen}) == 3
    assert max(int(batch["id"].max()) for batch in seen) >= 24  # beyond the validation set


def test_updates_that_are_missing_are_told(sgd):
    specimen = sgd.put(Subject(("preln_transformer_tiny",)), Depth(1, 1))
    with pytest.raises(AdminError, match="Pre-LN: made 1 of 2 updates"):
        train_steps(specimen, 2, progress=lambda batches: batches[:1])


def test_the_bar_sees_every_batch(sgd):
    seen = []

    def progress(batches):
        for batch in batches:
            seen.append(batch)
            yield batch

    train_steps(sgd.put(Subject(("preln_transformer_tiny",)), Depth(1, 1)), 2, progress)
    assert len(seen) == 2


def test_what_diverges_is_told(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    bench = Bench(Conditions(data=data, max_tokens=80, cpu=True, words=("--lr", "1e30")))
    specimen = bench.put(Subject(("postln_transformer_tiny",)), Depth(1, 1))
    with pytest.raises(AdminError, match="Post-LN: gradients are not finite"):
        train_steps(specimen, 3)


def test_the_loss_must_be_finite(bench):
    specimen = bench.put(Subject(("postln_transformer_tiny",)), Depth(1, 1))
    with torch.no_grad():
        specimen.model.decoder.output_projection.weight.fill_(float("inf"))
    with pytest.raises(AdminError, match="Post-LN: its loss is"):
        output_gradients(specimen)
