"""What a study is: a measurement of several models, and the views of its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Iterator, Optional, Sequence

from tqdm import tqdm

from admin_fairseq.analysis.bench import Bench, Depth, Specimen, Subject
from admin_fairseq.pictures import AnyPanel

Result = dict[str, Any]
"""What was measured, in plain types, as its JSON file has it."""


@dataclass(frozen=True)
class Plan:
    """What to measure, on what, how often. ``depths``: empty for those of the architectures."""

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

        A checkpoint has one depth and one seed. A bar shows how far it is.
        """
        first = self.bench.conditions.seed
        jobs = [
            (subject, depth, seed)
            for subject in self.subjects
            for depth in ([None] if subject.path else self.depths or [None])
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
    pictures: tuple[str, ...] = field(default=())


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
    short = [f"{m['label']}{'' if one_depth else f' {depth(m)}'}" for m in models]
    if len(set(short)) == len(models):
        return short
    return [f"{title} ({model['model']})" for title, model in zip(short, models)]


def stacks_in(models: Iterable[Result]) -> list[str]:
    """The stacks that the models have, encoder first."""
    return list(dict.fromkeys(stack for model in models for stack in model["layers"]))


def curve_titles(models: Iterable[Result]) -> dict[str, str]:
    """Subject → what to call it, whatever its depths."""
    labels = {model["model"]: model["label"] for model in models}
    unique = len(set(labels.values())) == len(labels)
    return labels if unique else {model: f"{labels[model]} ({model})" for model in labels}
