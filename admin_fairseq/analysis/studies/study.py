"""What a study is: a measurement of several models, and the views of its result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Iterable, Iterator, Optional, Sequence

from tqdm import tqdm

from admin_fairseq.analysis.bench import Bench, Depth, Specimen, Subject, says_layers
from admin_fairseq.pictures import AnyPanel

Result = dict[str, Any]
"""What was measured, in plain types, as its JSON file has it."""


@dataclass(frozen=True)
class Plan:
    """What to measure, on what, how often."""

    bench: Optional[Bench] = None  # None where only files are read
    subjects: Sequence[Subject] = ()
    depths: Sequence[Depth] = ()
    seeds: int = 1
    draws: int = 1
    size: float = 0.01
    gradient_size: float = 0.0001
    updates: int = 0
    profiles: Sequence[str] = ()

    def specimens(self, title: str, seeds: int = 1) -> Iterator[tuple[Subject, int, Specimen]]:
        """Every model, depth by depth, each with its seed; one is alive at a time.

        A checkpoint has one seed, and what says its layers itself one depth. A bar shows how far
        it is.
        """
        first = self.bench.conditions.seed
        one_depth = says_layers(self.bench.conditions.words)
        jobs = [
            (subject, depth, seed)
            for subject in self.subjects
            for depth in ([None] if one_depth or subject.has_layers else self.depths)
            for seed in range(first, first + (1 if subject.path else seeds))
        ]
        for subject, depth, seed in tqdm(jobs, title, unit="model", disable=None, leave=False):
            yield subject, seed, self.bench.put(subject, depth, seed)


@dataclass(frozen=True)
class Picture:
    """Panels in a grid of ``columns``; ``share``: over the same ranges."""

    caption: str
    panels: Sequence[AnyPanel]
    columns: int
    share: bool = True


@dataclass(frozen=True)
class Study:
    """One WHAT of ``admin-fairseq analyze``: numbers first, then the views, which only read them.

    ``pictures``: the names of the pictures that ``draw`` may make.
    """

    help: str
    measure: Callable[[Plan], Result]
    rows: Callable[[Result], list[dict[str, Any]]]
    draw: Callable[[Result], dict[str, Picture]]
    read: Callable[[Result], list[str]]
    pictures: tuple[str, ...]


def entry(subject: Subject, seed: int, specimen: Specimen, **measured: Any) -> Result:
    """A model in a result: what it is, and what was measured."""
    return {
        "label": specimen.label,
        "model": str(subject),
        "layers": specimen.depths,
        "seed": seed,
        **measured,
    }


def titles(models: Iterable[Result]) -> list[str]:
    """A title for each model that tells it from the others, as short as that allows."""
    models = list(models)

    def depth(model: Result) -> str:
        return "-".join(f"{layers}L" for layers in model["layers"].values())

    one_depth = len(set(map(depth, models))) < 2
    labels = [f"{m['label']}{'' if one_depth else f' {depth(m)}'}" for m in models]
    return _told_apart(labels, [model["model"] for model in models])


def stacks_in(models: Iterable[Result]) -> list[str]:
    """The stacks that the models have, encoder first."""
    return list(dict.fromkeys(stack for model in models for stack in model["layers"]))


def curve_titles(models: Iterable[Result]) -> dict[str, str]:
    """Subject → what to call it, whatever its depths."""
    labels = {model["model"]: model["label"] for model in models}
    return dict(zip(labels, _told_apart(list(labels.values()), list(labels))))


def _told_apart(labels: list[str], names: list[str]) -> list[str]:
    """The labels; where several are alike, with the names of the models, a path cut short."""
    tails = ["/".join(name.split("/")[-2:]) for name in names]
    for told in (tails, names):
        titles = [
            label if labels.count(label) == 1 else f"{label} ({name})"
            for label, name in zip(labels, told)
        ]
        if len(set(titles)) == len(titles):
            break
    return titles
