import re
import shlex

import fairseq
import pytest
import torch
from omegaconf import OmegaConf

from admin_fairseq.analysis.bench import Bench, Subject
from admin_fairseq.analysis.options import Conditions
from admin_fairseq.config import resolve
from admin_fairseq.errors import AdminError
from admin_fairseq.hooks.recorder import residual_sites
from admin_fairseq.profiling.run import measure
from admin_fairseq.starting import check_run
from admin_fairseq.studies.options import Depth

BEFORE = [f"--{stack}-normalize-before" for stack in ("encoder", "decoder")]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_depths_as_typed():
    assert str(Depth(18, 18)) == "18" and str(Depth(60, 12)) == "60-12"


@pytest.mark.parametrize(
    "words, label",
    [
        (["postln_transformer_tiny"], "Post-LN"),
        (["preln_transformer_tiny"], "Pre-LN"),
        (["postln_transformer_tiny", BEFORE[1]], "Post-LN/Pre-LN"),
        (["postln_transformer_tiny", BEFORE[0]], "Pre-LN/Post-LN"),
        (["admin_transformer_tiny"], "Admin"),
        (["tfixup_transformer_tiny"], "T-Fixup"),
        (
            ["preln_transformer_tiny", "--init-type", "dsinit"],
            "depth-scaled initialisation, Pre-LN",
        ),
        (["transformer"], "fairseq Post-LN"),
        (["transformer", *BEFORE], "fairseq Pre-LN"),
    ],
)
def test_labels(bench, words, label):
    assert bench.put(Subject(tuple(words)), Depth(1, 1)).label == label


def test_a_language_model_has_a_decoder(lm_bench):
    ours = lm_bench.put(Subject(("preln_transformer_lm_tiny",)), Depth(7, 2))
    stock = lm_bench.put(Subject(("transformer_lm", "--decoder-embed-dim", "16")), Depth(7, 2))
    assert (ours.label, stock.label) == ("Pre-LN", "fairseq Post-LN")
    assert ours.depths == stock.depths == {"decoder": 2}
    tokens = ours.batch["net_input"]["src_tokens"]
    assert torch.equal(ours.real("decoder"), tokens.t().ne(ours.task.dictionary.pad()))


def test_a_masked_language_model_has_an_encoder(lm_bench, tmp_path):
    ours = lm_bench.put(Subject(("preln_transformer_mlm_tiny",)), Depth(2, 7))
    assert ours.label == "Pre-LN" and ours.depths == {"encoder": 2}
    assert ours.batch["net_input"]["src_tokens"].eq(ours.task.mask_idx).any()
    options = OmegaConf.to_container(ours.run.model)
    torch.save({"args": None, "cfg": {"model": options}, "model": ours.model.state_dict()}, "c.pt")
    read = lm_bench.put(Subject(path="c.pt"))
    assert read.label == "Pre-LN" and read.loss() == ours.loss()


def test_all_models_see_one_batch_but_have_their_own_weights(bench):
    one = bench.put(Subject(("postln_transformer_tiny",)), Depth(1, 2), seed=3)
    same = bench.put(Subject(("postln_transformer_tiny",)), Depth(1, 2), seed=3)
    other = bench.put(Subject(("postln_transformer_tiny",)), Depth(1, 2), seed=4)
    assert one.batch is same.batch is other.batch
    assert one.depths == {"encoder": 1, "decoder": 2}
    name = "decoder.layers.1.fc1.weight"
    weights = [specimen.model.state_dict()[name] for specimen in (one, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert not one.model.training


def test_the_batch_is_that_of_the_conditions_whatever_comes_first(bench, data):
    another = Bench(bench.conditions)
    words = Subject(("postln_transformer_tiny",))
    first = another.put(words, Depth(1, 1), seed=5)
    assert first.batch["id"].tolist() == bench.put(words, Depth(1, 1)).batch["id"].tolist()


def test_the_seed_of_the_conditions_is_the_default(data):
    words = Subject(("postln_transformer_tiny",))
    default, one, seven = (
        Bench(Conditions(data=data, max_tokens=80, cpu=True, seed=7)).put(words, Depth(1, 1), seed)
        for seed in (None, 1, 7)
    )
    found = [s.model.decoder.layers[0].fc1.weight for s in (default, one, seven)]
    assert torch.equal(found[0], found[2]) and not torch.equal(found[0], found[1])


def test_loss_is_per_token(bench):
    specimen = bench.put(
        Subject(("postln_transformer_tiny", "--label-smoothing", "0")), Depth(1, 1)
    )
    logits, _ = specimen.model(**specimen.batch["net_input"])
    pad = specimen.task.target_dictionary.pad()
    target = specimen.batch["target"]
    expected = torch.nn.functional.cross_entropy(logits.transpose(1, 2), target, ignore_index=pad)
    assert float(specimen.loss()) == pytest.approx(float(expected), rel=1e-5)


def test_hooks_see_what_would_be_compiled(bench):
    specimen = bench.put(Subject(("admin_transformer_tiny", "--compile")), Depth(1, 1))
    check_run(specimen.run)  # as fairseq's trainer does
    assert not specimen.run.model.compile


def test_names_are_as_typed():
    words = ("postln_transformer_tiny", "--adam-betas", "(0.9, 0.98)")
    assert shlex.split(str(Subject(words))) == list(words)
    assert str(Subject(path="c.pt")) == "c.pt"


def test_padding_is_not_real(bench):
    specimen = bench.put(Subject(("postln_transformer_tiny",)), Depth(1, 1))
    inputs, pad = specimen.batch["net_input"], specimen.task.source_dictionary.pad()
    assert inputs["src_tokens"].eq(pad).any()
    for stack, tokens in (("encoder", "src_tokens"), ("decoder", "prev_output_tokens")):
        assert torch.equal(specimen.real(stack), inputs[tokens].t().ne(pad))


def test_omegas_are_measured_as_training_would(bench, tmp_path):
    specimen = bench.put(Subject(("admin_transformer_tiny", "--dropout", "0.3")), Depth(2, 2))
    omegas = [residual.omega[0].item() for residual in residual_sites(specimen.model).values()]
    assert omegas == pytest.approx([entry.omega for entry in specimen.profile.entries])
    assert len(set(omegas)) > 5
    again = measure(specimen.model, resolve(specimen.run.model), specimen.task, specimen.run)
    assert [e.omega for e in again.entries] == pytest.approx(omegas)
    assert list(tmp_path.iterdir()) == []


def test_omegas_from_a_file(bench):
    words = ("admin_transformer_tiny", "--init-type", "adaptive")
    measured = bench.put(Subject(words), Depth(1, 1)).profile
    measured.write("p.json")
    other = bench.put(Subject((*words, "--profile-path", "p.json")), Depth(1, 1), seed=9)
    assert other.profile.entries == measured.entries
    with pytest.raises(AdminError, match=re.escape("p.json: made for 1 encoder")):
        bench.put(Subject((*words, "--profile-path", "p.json")), Depth(2, 1))


def test_a_checkpoint_is_what_was_saved(bench, data):
    built = bench.put(Subject(("admin_transformer_tiny", "--init-type", "deepnet")), Depth(2, 3))
    torch.save(
        {"args": None, "cfg": {"model": vars(_options(built))}, "model": state(built)}, "c.pt"
    )
    found = bench.put(Subject(path="c.pt"), Depth(9, 9), seed=9)
    assert (found.label, found.depths) == ("DeepNorm", {"encoder": 2, "decoder": 3})
    assert found.batch is built.batch
    for name, weight in found.model.state_dict().items():
        # fairseq 0.12.2 leaves what _float_tensor holds to chance
        assert name.endswith("_float_tensor") or torch.equal(weight, state(built)[name]), name


def state(specimen):
    return specimen.model.state_dict()


def _options(specimen):
    return resolve(specimen.run.model)


def test_a_checkpoint_wants_its_dictionary(bench, lm_bench, data):
    built = bench.put(Subject(("postln_transformer_tiny",)), Depth(1, 1))
    weights = state(built)
    for name in ("encoder.embed_tokens", "decoder.embed_tokens", "decoder.output_projection"):
        weights[f"{name}.weight"] = torch.cat([weights[f"{name}.weight"]] * 2)
    torch.save({"cfg": {"model": vars(_options(built))}, "model": weights}, "c.pt")
    with pytest.raises(AdminError, match=r"the encoder of c\.pt has embeddings for") as error:
        bench.put(Subject(path="c.pt"))
    assert data in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "conditions, words, message",
    [
        ({}, ["nonsense"], "unknown --arch nonsense"),
        ({}, ["postln_transformer_tiny", "--foo"], "unrecognized arguments: --foo"),
        ({"data": "nowhere"}, ["transformer"], "nowhere: --data must be the folder"),
        ({"subset": "nope"}, ["transformer"], "nope"),
        ({"max_tokens": 1}, ["transformer"], "no sentence fits into --max-tokens 1"),
        ({}, ["transformer_lm"], "dict.txt: cannot be read: No such file"),
        ({}, ["roberta"], "--arch roberta: not a fairseq transformer"),
        ({}, ["transformer", "--fp16"], "--fp16: measurements are in float32"),
        ({}, ["transformer", "--seed", "-1"], "--seed takes a whole number from 0"),
        pytest.param(
            *(
                {},
                ["transformer", "--task", "denoising"],
                "--task denoising: must be one of translation",
            ),
            marks=pytest.mark.skipif(
                fairseq.__version__ == "0.12.2", reason="options of the task contradict its model's"
            ),
        ),
        (
            {"words": ("--required-batch-size-multiple", "0")},
            ["transformer"],
            "--required-batch-size-multiple takes a whole number from 1",
        ),
        (
            {"words": ("--criterion", "adaptive_loss")},
            ["transformer"],
            "transformer: fairseq cannot build it: AdaptiveLoss",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(data, conditions, words, message):
    bench = Bench(Conditions(**{"data": data, "max_tokens": 80, "cpu": True, **conditions}))
    with pytest.raises(AdminError, match=re.escape(message)) as error:
        bench.put(Subject(tuple(words)), Depth(1, 1))
    assert "\n" not in str(error.value)


def test_an_adaptive_softmax_wants_its_criterion(data):
    words = ("transformer", "--adaptive-softmax-cutoff", "6,8")
    bench = Bench(Conditions(data=data, max_tokens=80, cpu=True))
    with pytest.raises(AdminError, match="--criterion adaptive_loss --ddp-backend legacy_ddp"):
        bench.put(Subject(words), Depth(1, 1)).loss()
    fitting = ("--criterion", "adaptive_loss", "--ddp-backend", "legacy_ddp")
    bench = Bench(Conditions(data=data, max_tokens=80, cpu=True, words=fitting))
    assert bench.put(Subject(words), Depth(1, 1)).loss() > 0
