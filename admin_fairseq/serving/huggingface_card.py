"""The model card (README.md) of a model exported for Hugging Face."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Iterable, Mapping, Optional

from torch import nn

from admin_fairseq.architectures import ARCHITECTURES
from admin_fairseq.checkpoints.building import resolved
from admin_fairseq.checkpoints.storage import run_options
from admin_fairseq.config import CONFIGS
from admin_fairseq.errors import AdminError, printable
from admin_fairseq.fairseq_runs import words_of
from admin_fairseq.files import read_text
from admin_fairseq.formats import as_markdown
from admin_fairseq.results.evaluation import Evaluation, read_evaluation
from admin_fairseq.serving.huggingface_classes import TRANSLATION, HuggingFaceClass
from admin_fairseq.serving.huggingface_tokenizers import TokenizerKind

logger = logging.getLogger(__name__)

LANGUAGE = re.compile(r"[a-z]{2,3}")
"""Matches what the hub takes as a language: its ISO 639 code."""

WIDTH = 90
"""Largest number of characters in a line of code, but for the backslash that continues it."""

LOADING = """\
from transformers import {auto}, AutoTokenizer

folder = {folder}  # or the model's name on the hub
tokenizer = AutoTokenizer.from_pretrained(folder)
{target}model = {auto}.from_pretrained(folder)
"""
TRANSLATING = """\
batch = tokenizer([{text}{end}], return_tensors="pt", padding=True)
for ids in model.generate(**batch):
    print({decoder}.decode(ids, skip_special_tokens=True))
"""
CONTINUING = """\
prompt = "</s>" + {text}  # the model's sentences begin with the end symbol
batch = tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
for ids in model.generate(**batch):
    print(tokenizer.decode(ids, skip_special_tokens=True))
"""
TARGET = "target"
"""Folder, below the model's, of the target language's tokenizer, if it has a dictionary of its own.
"""

SAVED_AGAIN = """
To save the model again, after training it further for example, load it with
`trust_remote_code=True`. The class of the library does not save the table of positions; the class
in `{file}` does, and nothing else.
"""


@dataclass(frozen=True)
class Origin:
    """What a card says of the checkpoint: its path, content without weights, original options."""

    path: str
    state: Mapping[str, Any]
    options: Mapping[str, Any]
    languages: tuple[str, ...]  # source and target; none for a language model

    @property
    def scheme(self) -> str:
        """The scheme's title and paper, or fairseq's model."""
        if self.options["_name"] in CONFIGS or "init_type" in self.options:
            scheme = resolved(self.options).scheme
            return f"{scheme.title.split(':')[0]} ({scheme.paper})"
        return f"fairseq's {self.options['_name']}"

    @property
    def depth(self) -> str:
        """The number of layers, as "18L-18L" or, without an encoder, "18L"."""
        stacks = ("encoder", "decoder") if self.languages else ("decoder",)
        return "-".join(f"{self.options[f'{stack}_layers']}L" for stack in stacks)

    @property
    def command(self) -> str:
        """The command that trained the model: the recorded one, or else one made of its options.

        Empty if it had a task, a loss or the like that is not known here.
        """
        recorded = self._recorded()
        if recorded:
            return _in_lines(recorded)
        user_dir = ["--user-dir", "admin_fairseq"] if self.options["_name"] in ARCHITECTURES else []
        try:
            words = words_of({**run_options(self.state), "model": self.options})
        except AdminError:
            return ""
        return _in_lines(["fairseq-train", "DATA_BIN", *user_dir, *words])

    def _recorded(self) -> list[str]:
        """Return the words of the command that ``admin-fairseq train`` recorded beside the model.

        Empty if there is none: any other file of that name may hold what must not be published.
        """
        settings = os.path.join(os.path.dirname(self.path), "settings")
        try:
            words = shlex.split(read_text(settings))
        except (AdminError, ValueError):
            return []
        return words if os.path.basename((words or [""])[0]) == "fairseq-train" else []

    @cached_property
    def evaluation(self) -> Optional[Evaluation]:
        """The scores in evaluation.json beside the checkpoint, if they are this checkpoint's.

        They are not if they are older, as after further training.
        """
        folder, name = os.path.split(self.path)
        path = os.path.join(folder, "evaluation.json")
        found = read_evaluation(path) if os.path.isfile(path) else None
        if found is None or found.checkpoint not in (None, name):
            return None
        if os.path.isfile(self.path) and os.path.getmtime(path) < os.path.getmtime(self.path):
            logger.warning("%s: older than %s, so the model card is without its scores", path, name)
            return None
        return found


def _in_lines(words: Iterable[str]) -> str:
    """Return a command for a shell, in lines of WIDTH characters where its options allow it."""
    lines = [""]
    for option in re.split(r" (?=--)", shlex.join(words)):
        if len(lines[-1]) + len(option) > WIDTH:
            lines.append("   ")
        lines[-1] += f" {option}" if lines[-1] else option
    return " \\\n".join(printable(line) for line in lines)


def card(
    origin: Origin,
    found: HuggingFaceClass,
    model: nn.Module,
    kind: TokenizerKind,
    text: str,
    folder: str,
    separate: bool,
) -> str:
    """Return the model card: metadata, code that uses the model, how it was trained, its scores.

    ``model`` is the folded model of fairseq, ``text`` an example of its input, ``folder`` the name
    of its folder; ``separate`` says whether each language has a tokenizer of its own.
    """
    languages = " to ".join(origin.languages)
    title = f"{origin.depth} transformer, {languages or 'language model'}"
    rows = {
        "Scheme": origin.scheme,
        "Layers": origin.depth,
        "Width": str(origin.options["decoder_embed_dim"]),
        "Parameters, after folding": f"{sum(w.numel() for w in model.parameters()):,}",
        "Vocabulary": f"{len(model.get_parameter('decoder.embed_tokens.weight')):,}",
        "Input": kind.reads,
        "Class": found.name,
    }
    parts = [
        f"---\n{_metadata(origin, title)}\n---",
        f"# {as_markdown(title)}",
        "Trained with fairseq and the plugin admin-fairseq. The scales of its residual connections "
        f"are multiplied into other weights, so that {found.name} computes the same.",
        _table("Model", rows.items()),
        f"## Use\n\n```python\n{_code(found, kind, text, folder, separate)}```",
        SAVED_AGAIN.format(file=CODE_FILE).strip() if found.code else "",
        _training(origin.command),
        _table("Evaluation", _scores(origin.evaluation)),
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


CODE_FILE = "modeling_saved_positions.py"
"""Name of the file with the class that saves a model again."""


def _metadata(origin: Origin, title: str) -> str:
    """Return the card's metadata as YAML, with the scores as the hub reads them."""
    from huggingface_hub import EvalResult, ModelCardData

    scores = origin.evaluation or Evaluation()
    task = "translation" if origin.languages else "text-generation"
    dataset = scores.dataset or "unknown"
    results = [
        EvalResult(
            task_type=task,
            dataset_type=dataset,
            dataset_name=dataset,
            dataset_split=scores.subset,
            metric_type="bleu",
            metric_value=round(score.score, 2),
            metric_name=f"BLEU ({kind})",
        )
        for kind, score in scores.bleu.items()
    ]
    return ModelCardData(
        language=[name for name in origin.languages if LANGUAGE.fullmatch(name)] or None,
        library_name="transformers",
        pipeline_tag=task,
        tags=["fairseq", "admin-fairseq"],
        model_name=title if results else None,
        eval_results=results or None,
    ).to_yaml()


def _code(
    found: HuggingFaceClass, kind: TokenizerKind, text: str, folder: str, separate: bool
) -> str:
    """Return Python code that loads the model and uses it on ``text``."""
    other = f'{TARGET} = AutoTokenizer.from_pretrained(folder, subfolder="{TARGET}")\n'
    return (LOADING + (TRANSLATING if found.auto == TRANSLATION else CONTINUING)).format(
        auto=found.auto,
        folder=json.dumps(folder),  # in ASCII: a name may be no UTF-8
        target=other if separate else "",
        decoder=TARGET if separate else "tokenizer",
        text=json.dumps(text, ensure_ascii=False),
        end="" if kind.appends_eos else ' + " </s>"',
    )


def _training(command: str) -> str:
    """Return the section with the command, or an empty text without one."""
    return f"## Training\n\n```text\n{command.replace('```', '')}\n```" if command else ""


def _scores(evaluation: Optional[Evaluation]) -> Iterable[tuple[str, str]]:
    """Yield the scores and how they were computed, as rows of a table."""
    if evaluation is None:
        return
    yield "Test set", f"{evaluation.dataset or 'unknown'}, {evaluation.subset}"
    for kind, score in evaluation.bleu.items():
        yield f"BLEU ({kind})", f"{score.score:.2f} ({score.signature})"
    if evaluation.chrf:
        yield "chrF2", f"{evaluation.chrf.score:.2f} ({evaluation.chrf.signature})"


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """Return a section with a table of names and values; an empty text if there are no rows."""
    lines = [f"| {as_markdown(name)} | {as_markdown(value)} |" for name, value in rows]
    return "\n".join([f"## {title}\n", "| | |", "|---|---|", *lines]) if lines else ""
