"""The model card, and the code in it."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

from fairseq.data import Dictionary

from admin_fairseq.checkpoints.dictionaries import DataBin
from admin_fairseq.serving.huggingface_tokenizers import subwords

from .huggingface_exports import JOINED, checkpoint, export, loaded

HOSTILE = ["```", "`__import__('os')`", '"""', "\x1b[31m", "{x}", "---", "\u202e", "<s>1", "\\"]
HOSTILE += ["\U0001f600"]  # not in one unit of UTF-16


def test_cards_code_in_a_fresh_process(task, bins, tmp_path, subwords_of_words):
    """Without fairseq and this plugin, and without a network."""
    hostile = Dictionary()
    for symbol in HOSTILE:
        hostile.add_symbol(symbol)
    other = SimpleNamespace(source_dictionary=task.source_dictionary, target_dictionary=hostile)
    state = checkpoint(other, "postln_transformer_tiny")
    hostile.save(os.path.join(bins("").folder, "dict.xx.txt"))
    export(state, DataBin(bins("").folder, "de", "xx"), tmp_path / "separate")
    back = checkpoint(
        SimpleNamespace(source_dictionary=hostile, target_dictionary=task.target_dictionary),
        "postln_transformer_tiny",
    )
    export(back, DataBin(bins("").folder, "xx", "en"), tmp_path / 'hostile "name')
    codes = tmp_path / "codes.txt"
    codes.write_text("#version: 0.2\nw o\n")
    by = {"spm": subwords(subwords_of_words, None), "codes": subwords(None, str(codes))}
    for name, asked in by.items():
        state = checkpoint(task, "preln_transformer_tiny", **JOINED)
        export(state, bins(""), tmp_path / name, asked)
        lm = checkpoint(task, "admin_transformer_lm_tiny")
        export(lm, bins("lm"), tmp_path / f"{name} lm", asked)
    folders = sorted(path for path in tmp_path.iterdir() if path.is_dir())
    assert len(folders) == 6
    code = [
        re.search(r"^```python\n(.*?)^```$", (folder / "README.md").read_text(), re.M | re.S)[1]
        for folder in folders
    ]
    ends = [' + " </s>"]' in text for text in code]
    assert ends == [folder.name == "codes" for folder in folders]
    without = "import sys\nfor name in ('fairseq', 'admin_fairseq', 'torchaudio'):\n"
    lines = [without + "    sys.modules[name] = None", *code]
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\nprint('-')\n".join(lines)],
        **{"cwd": tmp_path, "env": env, "capture_output": True, "text": True},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = [text.strip() for text in done.stdout.split("-\n")][1:]
    assert len(outputs) == len(folders)
    assert all("word" in text for text, folder in zip(outputs, folders) if "sep" not in folder.name)


def test_the_card(task, bins, tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    scores = {"dataset": "multi30k", "subset": "test", "checkpoint": "best.pt"}
    scores["bleu"] = {"detokenised": {"score": 37.014, "signature": "nrefs:1|case:mixed"}}
    (run / "evaluation.json").write_text(json.dumps(scores))
    (run / "settings").write_text("fairseq-train data/bin --arch admin_transformer\n")
    card = {}
    for name in ("best.pt", "last.pt"):
        state = checkpoint(task, "admin_transformer_tiny", init_type="deepnet")
        export(state, bins(""), tmp_path / name, path=str(run / name))
        card[name] = (tmp_path / name / "README.md").read_text()
    (run / "settings").write_text("password = hunter2")  # not a command that train recorded
    state = checkpoint(task, "postln_transformer_tiny")
    state["cfg"]["optimization"] = {"lr": [0.002], "max_update": 5}
    state["cfg"]["optimizer"] = {"_name": "adam"}
    state["cfg"]["common"] = {"seed": 1, "fp16": True}
    export(state, bins(""), tmp_path / "last.pt", path=str(run / "last.pt"), force=True)
    of_best = ("value: 37.01", "| BLEU (detokenised) | 37.01 (nrefs:1\\|case:mixed) |")
    assert all(part in card["best.pt"] and part not in card["last.pt"] for part in of_best)
    of_both = ("- de\n- en", "DeepNorm", "2L-2L", "--arch admin_transformer\n", "trust_remote_code")
    assert all(part in text for part in of_both for text in card.values())
    text = (tmp_path / "last.pt" / "README.md").read_text()
    assert "hunter2" not in text
    command = re.search("```text\n(fairseq-train .*?)```", text, re.S)[1].replace("\\\n", "")
    command = " ".join(command.split())
    assert command.startswith("fairseq-train DATA_BIN --user-dir admin_fairseq --task translation")
    words = ("--arch postln_transformer_tiny", "--optimizer adam", "--fp16", "--encoder-layers 2")
    assert all(word in command for word in (*words, "--max-update 5", "--lr 0.002"))


def test_shared_weights_count_once(task, bins, tmp_path):
    for name, options in (("tied", JOINED), ("untied", {})):
        export(checkpoint(task, "postln_transformer_tiny", **options), bins(""), tmp_path / name)
        text = (tmp_path / name / "README.md").read_text()
        found = dict(loaded(tmp_path / name).named_parameters())
        count = sum(w.numel() for key, w in found.items() if "positions" not in key)
        assert f"| Parameters, after folding | {count:,} |" in text


def test_scores_of_before_further_training_are_left_out(task, bins, tmp_path, caplog):
    path, scores = tmp_path / "last.pt", tmp_path / "evaluation.json"
    path.touch()
    scores.write_text(json.dumps({"bleu": {"detokenised": {"score": 12.5}}}))
    for name, older in (("new", -60), ("old", 60)):
        os.utime(path, (scores.stat().st_mtime + older,) * 2)
        state = checkpoint(task, "postln_transformer_tiny")
        export(state, bins(""), tmp_path / name, path=str(path))
        text = (tmp_path / name / "README.md").read_text()
        assert ("12.5" in text) == (name == "new")
    (message,) = [text for text in caplog.messages if "model card" in text]
    assert message.startswith(f"{scores}: older than last.pt")


def test_a_loss_that_is_not_known_here_has_no_command(task, bins, tmp_path):
    state = checkpoint(task, "postln_transformer_tiny")
    state["cfg"]["criterion"] = {"_name": "of_another_plugin"}
    export(state, bins(""), tmp_path / "out")
    text = (tmp_path / "out" / "README.md").read_text()
    assert "## Training" not in text and "## Model" in text
