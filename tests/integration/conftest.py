"""The real fairseq commands, as a user types them, on a tiny corpus."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from .shims import BIN, captured, one_thread

PAIR = ["--source-lang", "de", "--target-lang", "en"]
TRAIN = [
    *("--user-dir", "admin_fairseq", "--task", "translation", *PAIR, "--cpu"),
    *("--encoder-layers", "3", "--decoder-layers", "2", "--share-all-embeddings"),
    *("--optimizer", "radam", "--adam-betas", "(0.9, 0.98)", "--lr", "1e-3"),
    *("--criterion", "label_smoothed_cross_entropy", "--label-smoothing", "0.1"),
    *("--max-tokens", "120", "--seed", "3", "--num-workers", "0"),
    *("--log-format", "simple", "--log-interval", "1"),
]
WARMUP = ["--lr-scheduler", "inverse_sqrt", "--warmup-updates", "20"]


class Runner:
    """Runs commands in an empty folder, so that nothing is found by chance."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = one_thread()

    def start(self, command, *words, stdin=os.devnull):
        """A process of its own, from the start of Python on."""
        return subprocess.Popen(
            [str(BIN / command), *map(str, words)],
            cwd=self.folder,
            env=self.environment,
            stdin=open(stdin),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def __call__(self, command, *words, status=0, stdin=os.devnull):
        """Run in a warm process, check the exit status, return what was printed."""
        returned, output, errors = self.captured(command, *words, stdin=stdin)
        assert returned == status, f"{command} {words}\n{output[-3000:]}\n{errors[-3000:]}"
        return Output(output, errors)

    def captured(self, command, *words, stdin=os.devnull):
        """Exit status, standard output and errors."""
        return captured(self.folder, self.environment, BIN / command, *words, stdin=stdin)

    def train(
        self, data, save_dir, *words, arch="admin_transformer_tiny", validate=False, status=0
    ):
        schedule = [] if "--lr-scheduler" in words else WARMUP
        validation = [] if validate else ["--disable-validation"]
        command = ["fairseq-train", data, *TRAIN, *schedule, *validation, "--arch", arch, *words]
        return self(*command, "--save-dir", save_dir, status=status)

    def generate(self, data, checkpoint, *words, status=0):
        command = ["fairseq-generate", data, "--path", checkpoint, *PAIR, "--cpu", "--beam", "2"]
        # without the last option fairseq-fixed leaves out the end of the test set
        limits = ["--max-len-b", "20", "--required-batch-size-multiple", "1"]
        return self(*command, *limits, *words, status=status)


class Output(str):
    """Standard output; ``errors`` is standard error."""

    def __new__(cls, output: str, errors: str):
        self = super().__new__(cls, output)
        self.errors = errors
        return self

    def losses(self):
        """What fairseq printed after each update, up to the last digit."""
        lines = [line for line in self.splitlines() if "| train_inner |" in line]
        return [line.split("loss=")[1].split(",")[0] for line in lines]

    def hypotheses(self):
        return sorted(line for line in self.splitlines() if line.startswith("H-"))


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    return Runner(tmp_path_factory.mktemp("anywhere"))


@pytest.fixture(scope="session")
def data(run, tmp_path_factory):
    """600 pairs whose target is the source in reverse, in other words."""
    folder = tmp_path_factory.mktemp("corpus")
    random.seed(1)
    for split, size in (("train", 600), ("valid", 20), ("test", 10)):
        pairs = [[random.randrange(40) for _ in range(random.randint(3, 12))] for _ in range(size)]
        source = "".join(" ".join(f"q{w}" for w in words) + "\n" for words in pairs)
        target = "".join(" ".join(f"z{w}" for w in reversed(words)) + "\n" for words in pairs)
        (folder / f"{split}.de").write_text(source)
        (folder / f"{split}.en").write_text(target)
    binary = folder / "bin"
    prefixes = [f"--{s}pref={folder / s}" for s in ("train", "valid", "test")]
    run("fairseq-preprocess", *PAIR, *prefixes, "--joined-dictionary", "--destdir", binary)
    return binary


@pytest.fixture(scope="session")
def text(run, data, tmp_path_factory):
    """The English side of the tiny corpus, with its dictionary."""
    folder, source = tmp_path_factory.mktemp("text") / "bin", data.parent
    words = [f"--{s}pref={source / f'{s}.en'}" for s in ("train", "valid", "test")]
    words += ["--srcdict", data / "dict.en.txt", "--destdir", folder]
    run("fairseq-preprocess", "--only-source", *words)
    return folder


@pytest.fixture(scope="session")
def configs(run, tmp_path_factory):
    """What admin-fairseq configs writes, for --config-dir."""
    folder = tmp_path_factory.mktemp("configs")
    run("admin-fairseq", "configs", folder)
    return folder
