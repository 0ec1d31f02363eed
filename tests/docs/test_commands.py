"""Every command of the documentation, run as it stands, on little text.

The programs on PATH are shims: they shorten what would take hours (few updates, a tiny model, no
GPU), by options after those of the page, and run the real program in a warm process.
"""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
from fairseq.models import ARCH_MODEL_NAME_REGISTRY

from admin_fairseq.architectures import KINDS

from ..integration.conftest import Runner
from ..integration.shims import LONGEST, Shims, captured
from .pages import PAGES, ROOT, of_language

pytestmark = pytest.mark.slow

STUDIES = {
    "amplification": ["--depths", "1,2", "--seeds", "1", "--draws", "1"],
    "dependency": ["--depths", "2"],
    "gradients": ["--depths", "2", "--updates", "1"],
    "magnitude": ["--depths", "2", "--updates", "1"],
    "report": ["--depths", "1,2", "--seeds", "1", "--draws", "1", "--updates", "1"],
}


def shortened(name, words):
    """The arguments, and what makes them quick."""
    words = [word for word in words if word not in ("--fp16", "--bf16")]
    if name == "fairseq-train":
        arch = words[words.index("--arch") + 1]
        sizes = (
            ("layers", "2"),
            ("embed-dim", "8"),
            ("ffn-embed-dim", "16"),
            ("attention-heads", "2"),
        )
        for stack in KINDS[ARCH_MODEL_NAME_REGISTRY[arch]].stacks:
            words += [word for size, n in sizes for word in (f"--{stack}-{size}", str(n))]
        limits = ["--max-tokens", "3000", "--max-epoch", "2", "--max-update", "40"]
        if "--max-positions" in words:
            limits += ["--max-positions", "32"]
        elif "lm" in arch:
            limits += ["--tokens-per-sample", "32"]
        # workers would import fairseq anew; integration/test_several_workers.py has them
        return [*words, "--cpu", *limits, "--num-workers", "0", "--distributed-world-size", "1"]
    if name == "admin-fairseq":
        end = words.index("--") if "--" in words else len(words)
        given, rest = words[:end], words[end:]
        if given[0] == "prepare":
            given += ["--bpe-size", "48"]
        if given[0] in ("translate", "generate"):
            given += ["--max-len-b", "9"]
        if given[0] == "analyze":
            given += STUDIES.get(given[1], [])
        return given + rest
    if name in ("fairseq-generate", "fairseq-interactive"):
        return [*words, "--cpu", "--max-len-b", "9"]
    if name == "fairseq-eval-lm":
        return [*words, "--cpu", "--tokens-per-sample", "32"]
    return words


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """shell(code): runs a block in the folder of a user who has come to the end of the tutorial."""
    folder = tmp_path_factory.mktemp("user")
    environment = Runner(folder).environment
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    shims = Shims(tmp_path_factory.mktemp("bin"), environment, shortened)

    def shell(code):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=folder,
            env=shims.environment,
            capture_output=True,
            text=True,
            timeout=LONGEST,
        )
        assert done.returncode == 0, f"{code}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        return done.stdout

    shell.folder, shell.environment = folder, environment
    make_workspace(shell)
    return shell


def make_workspace(shell):
    """Texts, data sets, and trained models, by the tutorial's own commands."""
    random.seed(1)
    folder = shell.folder
    pairs = [[random.randrange(40) for _ in range(random.randint(3, 9))] for _ in range(900)]
    for language, letter in (("de", "q"), ("en", "z")):
        text = "".join(" ".join(f"{letter}{n}" for n in words) + "\n" for words in pairs)
        (folder / f"train.{language}").write_text(text)
    readme = [block.code for block in of_language(PAGES[0], "bash") if not block.reason]
    prepare, train = (next(code for code in readme if words in code) for words in NEEDED)
    shell(prepare + train)
    shutil.copytree(folder / "data", folder / "data" / "multi30k.new")
    os.rename(folder / "data" / "multi30k.new", folder / "data" / "multi30k")
    training = [block.code for block in of_language(ROOT / "docs" / "training.md", "bash")]
    shell(next(code for code in training if "--destdir data/lm/bin" in code))
    for split in ("train", "valid"):
        lines = (folder / "data" / f"{split}.en").read_text().splitlines()
        (folder / "data" / f"{split}.odd").write_text("".join(f"{len(x) % 2}\n" for x in lines))
    for kind, words in (("en", "input0 --srcdict data/lm/bin/dict.txt"), ("odd", "label")):
        text = f"--trainpref data/train.{kind} --validpref data/valid.{kind}"
        shell(f"fairseq-preprocess --only-source {text} --destdir data/topics/{words}")
    shell(next(code for code in training if "--task language_modeling" in code))
    for scheme in ("admin", "postln", "preln"):
        run = f"admin-fairseq train multi30k --cpu --scheme {scheme} --encoder-layers 18"
        shell(f"{run} --decoder-layers 18 -- --log-dynamics 2")


NEEDED = ("admin-fairseq prepare --text", "fairseq-train data/bin")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_runs(page, shell):
    for name in ("folded.pt", "average.pt", "served", "served-lm"):  # of other pages
        path = Path(shell.folder, name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for block in of_language(page, "bash"):
        if not block.reason:
            shell(block.code)
    code = "".join(block.code for block in of_language(page, "python"))
    if code:
        (shell.folder / "page.py").write_text(code)
        words = shell.folder, shell.environment, shell.folder / "page.py"
        status, _, errors = captured(*words)
        assert status == 0, f"{code}\n{errors[-2000:]}"
