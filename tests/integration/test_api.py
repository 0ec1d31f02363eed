"""What ``import admin_fairseq`` offers to scripts."""

import pytest
import torch

import admin_fairseq
from admin_fairseq.checkpoints.storage import read_checkpoint
from admin_fairseq.errors import AdminError


@pytest.fixture(scope="module")
def trained(run, data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    run.train(data, folder, "--max-update", 2)
    return folder


def test_every_name_is_there():
    assert set(admin_fairseq.__all__) <= set(vars(admin_fairseq))
    assert admin_fairseq.__version__.count(".") == 2


def test_translations_are_those_of_fairseq_generate(trained, run, data):
    hub = admin_fairseq.load(str(trained / "checkpoint_last.pt"), str(data))
    printed = run.generate(data, trained / "checkpoint_last.pt", "--user-dir", "admin_fairseq")
    pairs = [line.split("\t") for line in printed.splitlines() if line[:2] in ("S-", "H-")]
    sources = {name[2:]: fields[0] for name, *fields in pairs if name[0] == "S"}
    expected = {name[2:]: fields[1] for name, *fields in pairs if name[0] == "H"}
    assert len(sources) == 10
    found = hub.translate([sources[number] for number in sorted(sources)], beam=2, max_len_b=20)
    assert found == [expected[number] for number in sorted(sources)]


def test_a_fold_is_the_commands_and_computes_the_same(trained, run, data, tmp_path):
    source, target = str(trained / "checkpoint_last.pt"), str(tmp_path / "folded.pt")
    lines = admin_fairseq.fold(source, target, check=True)
    assert "largest difference" in lines[-1]
    run("admin-fairseq", "fold", source, tmp_path / "other.pt")
    ours, theirs = (read_checkpoint(path)["model"] for path in (target, tmp_path / "other.pt"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    with pytest.raises(AdminError, match="--force"):
        admin_fairseq.fold(source, target)


def test_profile_and_dependency(trained, data):
    profile = admin_fairseq.read_profile(str(trained / "profile.json"))
    assert len(profile.entries) == 3 * 2 + 2 * 3
    hub = admin_fairseq.load(str(trained / "checkpoint_last.pt"), str(data))
    hub.task.load_dataset("valid")
    sentences = hub.task.dataset("valid")
    batch = sentences.collater([sentences[i] for i in range(8)])
    found = admin_fairseq.layer_dependency(hub.models[0], batch)
    assert [len(found[stack].beta) for stack in ("encoder", "decoder")] == [7, 7]
    squares = found["decoder"].sum_of_squared_diagonal
    assert squares == pytest.approx(sum(row[-1] ** 2 for row in found["decoder"].beta[1:]))


def test_what_is_wrong_is_told(trained, data, tmp_path):
    checkpoint = str(trained / "checkpoint_last.pt")
    (tmp_path / "junk").write_text("no model")
    for words, how, told in (
        ((str(tmp_path / "none.pt"), str(data)), {}, r"none\.pt: no such checkpoint"),
        ((checkpoint, str(tmp_path / "no")), {}, "no: no such folder"),
        ((checkpoint, str(tmp_path)), {}, r"dict\.de\.txt: cannot be read"),
        ((checkpoint, str(data), str(tmp_path / "junk")), {}, "junk"),
        ((checkpoint, str(data)), {"device": "nowhere"}, "cannot load it"),
    ):
        with pytest.raises(AdminError, match=told):
            admin_fairseq.load(*words, **how)


def test_files_of_the_folder_change_nothing(trained, data, tmp_path, monkeypatch):
    """fairseq's own interface would take these for the subword model."""
    monkeypatch.chdir(tmp_path)
    for name in ("sentencepiece.bpe.model", "code", "bpecodes"):
        (tmp_path / name).write_text("not mine")
    hub = admin_fairseq.load(str(trained / "checkpoint_last.pt"), str(data))
    assert hub.bpe is None and hub.cfg.bpe is None
