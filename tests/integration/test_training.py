"""Profile, train, resume, translate: the README's path with the real commands."""

import json
import re
import shlex
import shutil

import pytest
import torch


def omegas(checkpoint):
    model = torch.load(checkpoint, weights_only=True)["model"]
    return {name: value for name, value in model.items() if name.endswith(".omega")}


def sublayers(profile):
    return json.loads(profile.read_text())["sublayers"]


def learning_rates(log):
    return [float(rate) for rate in re.findall(r"train_inner.* lr=([0-9.e-]+)", log)]


@pytest.fixture(scope="session")
def trained(run, data, tmp_path_factory):
    """Forty updates in one go, with --arch admin_transformer_tiny and no --init-type."""
    folder = tmp_path_factory.mktemp("straight")
    return folder, run.train(data, folder, "--max-update", 40)


def test_without_init_type_it_profiles_once_and_trains(trained):
    folder, log = trained
    assert log.count("profiled batch") == 1 and len(log.losses()) == 40
    assert float(log.losses()[-1]) < float(log.losses()[0])
    assert len(sublayers(folder / "profile.json")) == 2 * 3 + 3 * 2


def test_two_passes_equal_the_automatic_way(run, data, trained, tmp_path):
    folder, automatic = trained
    log = run.train(data, tmp_path, "--init-type", "adaptive-profiling")
    assert str(tmp_path / "profile.json") in log.strip().splitlines()[-1]
    assert not log.losses() and not list(tmp_path.glob("*.pt"))
    assert sublayers(tmp_path / "profile.json") == sublayers(folder / "profile.json")
    second = run.train(data, tmp_path, "--init-type", "adaptive", "--max-update", 10)
    assert second.losses() == automatic.losses()[:10]


def test_profiling_beside_a_checkpoint_profiles_all_the_same(run, data, trained, tmp_path):
    """The file is that of fresh weights, and the checkpoint stays as it is."""
    folder, _ = trained
    before = (folder / "checkpoint_last.pt").read_bytes()
    words = ["--init-type", "adaptive-profiling", "--profile-path", tmp_path / "again.json"]
    log = run.train(data, folder, *words)
    assert not log.losses() and (folder / "checkpoint_last.pt").read_bytes() == before
    assert sublayers(tmp_path / "again.json") == sublayers(folder / "profile.json")


def test_resuming_needs_no_profile_and_changes_nothing(run, data, trained, tmp_path):
    run.train(data, tmp_path, "--max-update", 20)
    (tmp_path / "profile.json").unlink()
    log = run.train(data, tmp_path, "--max-update", 40)
    assert "profiled" not in log
    assert log.losses() == trained[1].losses()[20:]
    last = omegas(tmp_path / "checkpoint_last.pt")
    straight = omegas(trained[0] / "checkpoint_last.pt")
    assert last and all(torch.equal(last[name], straight[name]) for name in straight)


def test_adaptive_resumes_without_its_profile(run, data, trained, tmp_path):
    profile = tmp_path / "elsewhere.json"
    profile.write_text((trained[0] / "profile.json").read_text())
    adaptive = ["--init-type", "adaptive", "--profile-path", profile]
    run.train(data, tmp_path / "run", *adaptive, "--max-update", 2)
    profile.unlink()
    log = run.train(data, tmp_path / "run", *adaptive, "--max-update", 4)
    assert len(log.losses()) == 2


@pytest.mark.parametrize("arch", ["subln", "dlcl"])
def test_other_norm_placements_train_and_translate(arch, run, data, tmp_path):
    """Those of stock fairseq are compared with it elsewhere."""
    arch = f"{arch}_transformer_tiny"
    run.train(data, tmp_path, "--max-update", 3, arch=arch)
    (tmp_path / "profile.json").unlink(missing_ok=True)
    output = run.generate(data, tmp_path / "checkpoint_last.pt", "--user-dir", "admin_fairseq")
    assert len(output.hypotheses()) == 10
    assert "profil" not in output


def test_interactive_translates(run, data, trained):
    checkpoint = trained[0] / "checkpoint_last.pt"
    source = data.parent / "test.de"
    words = [data, "--user-dir", "admin_fairseq", "--path", checkpoint, "--cpu", "--input", source]
    output = run("fairseq-interactive", *words, "--source-lang", "de", "--target-lang", "en")
    assert len(output.hypotheses()) == 10


def test_tfixup_without_warmup_lowers_the_loss(run, data, tmp_path):
    log = run.train(
        *(data, tmp_path, "--lr-scheduler", "inverse_sqrt_nowarmup", "--max-update", 40),
        arch="tfixup_transformer_tiny",
    )
    first, last = (sum(map(float, part)) for part in (log.losses()[:5], log.losses()[-5:]))
    assert last < first - 5 * 0.3
    rates = learning_rates(log)
    assert rates[0] == pytest.approx(1e-3 * (4000 / 4001) ** 0.5, rel=1e-4)
    assert rates == sorted(rates, reverse=True)


def test_linear_schedule_reaches_its_end(run, data, tmp_path):
    log = run.train(
        data, tmp_path, "--max-update", 8, "--lr-scheduler", "linear", "--warmup-updates", 2
    )
    rates = learning_rates(log)
    assert rates[1] == pytest.approx(1e-3) and rates[-1] == 0.0


def test_profile_sees_the_first_batch_of_training(run, data, tmp_path):
    """As many tokens as in the first update, whichever batch the seed puts there."""
    for seed in (3, 4, 5):
        folder = tmp_path / str(seed)
        log = run.train(data, folder, "--seed", seed, "--max-update", 1)
        words = re.search(r"train_inner.* wpb=([0-9.]+)", log).group(1)
        assert json.loads((folder / "profile.json").read_text())["measurement"]["tokens"] == float(
            words
        )


def test_profile_is_taken_with_dropout(run, data, trained, tmp_path):
    run.train(data, tmp_path, "--init-type", "adaptive-profiling", "--dropout", 0.5)
    without = [entry["omega"] for entry in sublayers(trained[0] / "profile.json")]
    strong = [entry["omega"] for entry in sublayers(tmp_path / "profile.json")]
    assert strong != pytest.approx(without, rel=0.01)


def test_checkpoints_with_bleu_counts_resume_and_translate(run, data, tmp_path):
    """--eval-bleu leaves numpy numbers in a checkpoint."""
    bleu = ["--eval-bleu", "--eval-bleu-args", '{"beam": 1, "max_len_b": 5}']
    run.train(data, tmp_path, *bleu, "--max-update", 2, validate=True)
    log = run.train(data, tmp_path, *bleu, "--max-update", 3, validate=True)
    assert len(log.losses()) == 1
    run.generate(data, tmp_path / "checkpoint_best.pt", "--user-dir", "admin_fairseq")


def test_a_checkpoint_moved_from_its_folder_translates_without_a_profile(run, data, tmp_path):
    """What its configuration calls --save-dir is no longer there."""
    run.train(data, tmp_path / "run", "--max-update", 1)
    moved = (tmp_path / "run" / "checkpoint_last.pt").rename(tmp_path / "moved.pt")
    shutil.rmtree(tmp_path / "run")
    assert "profil" not in run.generate(data, moved, "--user-dir", "admin_fairseq")
    assert not (tmp_path / "run").exists()


def test_ensembles_and_restored_files_need_no_profile(run, data, trained, tmp_path):
    checkpoint = tmp_path / "kept.pt"
    checkpoint.write_bytes((trained[0] / "checkpoint_last.pt").read_bytes())
    pair = f"{checkpoint}:{trained[0] / 'checkpoint_last.pt'}"
    assert "profil" not in run.generate(data, pair, "--user-dir", "admin_fairseq")
    words = ["--restore-file", checkpoint, "--reset-optimizer", "--reset-dataloader"]
    log = run.train(data, tmp_path / "run", *words, "--reset-meters", "--max-update", 1)
    assert "profiled" not in log and float(log.losses()[0]) < float(trained[1].losses()[0])


def test_bf16_trains_on_the_cpu_and_resumes(run, data, tmp_path):
    run.train(data, tmp_path, "--bf16", "--max-update", 3)
    assert json.loads((tmp_path / "profile.json").read_text())["measurement"]["precision"] == "bf16"
    assert len(run.train(data, tmp_path, "--bf16", "--max-update", 5).losses()) == 2


def test_unequal_depths_and_activation_checkpointing(run, data, tmp_path):
    words = ["--encoder-layers", 4, "--decoder-layers", 1, "--checkpoint-activations"]
    run.train(data, tmp_path, *words, "--encoder-layerdrop", 0.5, "--max-update", 3)
    assert len(sublayers(tmp_path / "profile.json")) == 2 * 4 + 3


def test_missing_profile_names_the_command_that_makes_it(run, data, tmp_path):
    words = ["--init-type", "adaptive", "--max-update", 1]
    failed = run.train(data, tmp_path, *words, status=1)
    (line,) = failed.errors.strip().splitlines()
    assert str(tmp_path / "profile.json") in line
    assert not list(tmp_path.glob("*.pt"))
    command = line.split("make it with: ")[1]
    run(*shlex.split(command))
    assert len(run.train(data, tmp_path, *words).losses()) == 1


@pytest.mark.parametrize(
    "words, arch, told",
    [
        (["--init-type", "adaptive"], "preln_transformer_tiny", "--init-type adaptive"),
        (["--encoder-layers", "0"], "tfixup_transformer_tiny", "--encoder-layers"),
        (["--lr-scheduler", "inverse_sqrt_nowarmup", "--lr", "1e-3,5e-4"], None, "one --lr"),
        (["--adam-betas", "(0.9, nonsense)"], None, "--adam-betas"),
        (["--lr-scheduler", "linear", "--warmup-updates", "9"], None, "--max-update"),
    ],
)
def test_bad_options_get_one_line(words, arch, told, run, data, tmp_path):
    arch = arch or "admin_transformer_tiny"
    failed = run.train(data, tmp_path, "--max-update", 1, *words, arch=arch, status=1)
    (line,) = failed.errors.strip().splitlines()
    assert line.startswith("admin-fairseq: error: ") and told in line
    assert "Traceback" not in failed and not failed.losses()
    assert not list(tmp_path.glob("*.pt"))


def test_unfit_profile_gets_one_line(run, data, trained, tmp_path):
    words = ["--init-type", "adaptive", "--profile-path", trained[0] / "profile.json"]
    failed = run.train(data, tmp_path, *words, "--encoder-layers", 5, status=1)
    (line,) = failed.errors.strip().splitlines()
    assert "made for 3 encoder and 2 decoder layers, but the model has 5 and 2" in line
    assert not failed.losses()
