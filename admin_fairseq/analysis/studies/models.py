"""Build the models of a study one after another, and find titles for them in results."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Iterator, Sequence

from tqdm import tqdm

from admin_fairseq.analysis.bench import Bench, Specimen, Subject, sets_layers
from admin_fairseq.analysis.options import Models

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class MeasuredModel:
    """One model in the result of any study, at one depth and seed.

    ``label`` is a short title, ``model`` the architecture with its options or the checkpoint's
    path; ``layers`` maps stack to number of layers.
    """

    label: str
    model: str
    layers: dict[str, int]
    seed: int


def specimens(
    options: Models, study: str, seeds: int = 1
) -> Iterator[tuple[dict[str, Any], Specimen]]:
    """Build every model of a study, and yield its ``MeasuredModel`` fields and the model itself.

    Models come depth by depth, and only one is in memory at a time. Checkpoints are measured at one
    seed, and models that set their number of layers at one depth. Shows a progress bar.
    """
    bench = Bench(options.conditions)
    subjects = dict.fromkeys(
        [*map(Subject, options.built), *(Subject(path=p) for p in options.path)]
    )
    first = options.conditions.seed
    one_depth = sets_layers(options.conditions.words)
    jobs = [
        (subject, depth, seed)
        for subject in subjects
        for depth in ([None] if one_depth or subject.has_layers else options.depths)
        for seed in range(first, first + (1 if subject.path else seeds))
    ]
    depths = list(dict.fromkeys(str(depth) for _, depth, _ in jobs if depth is not None))
    layers = [f"layers {','.join(depths)}"] if depths else []
    counted = f"{study}: {len(subjects)} model{'s' if len(subjects) > 1 else ''}"
    logger.info("%s ...", ", ".join([counted, *layers]))
    for subject, depth, seed in tqdm(jobs, study, unit="model", disable=None, leave=False):
        specimen = bench.put(subject, depth, seed)
        about = {
            "label": specimen.label,
            "model": str(subject),
            "layers": specimen.depths,
            "seed": seed,
        }
        yield about, specimen


def titles(models: Sequence[MeasuredModel]) -> list[str]:
    """Return the shortest titles that distinguish the models: label, depth, name as needed."""

    def depth(model: MeasuredModel) -> str:
        return "-".join(f"{layers}L" for layers in model.layers.values())

    one_depth = len(set(map(depth, models))) < 2
    labels = [f"{m.label}{'' if one_depth else f' {depth(m)}'}" for m in models]
    return _distinct(labels, [model.model for model in models])


def stacks_in(models: Sequence[MeasuredModel]) -> list[str]:
    """Return the names of all stacks that the models have, encoder first."""
    return list(dict.fromkeys(stack for model in models for stack in model.layers))


def curve_titles(models: Sequence[MeasuredModel]) -> dict[str, str]:
    """Return ``MeasuredModel.model`` → its title for all depths together."""
    labels = {model.model: model.label for model in models}
    return dict(zip(labels, _distinct(list(labels.values()), list(labels))))


def _distinct(labels: list[str], names: list[str]) -> list[str]:
    """Add the models' names to labels that are equal, with paths shortened if possible."""
    tails = ["/".join(name.split("/")[-2:]) for name in names]
    for suffixes in (tails, names):
        titles = [
            label if labels.count(label) == 1 else f"{label} ({name})"
            for label, name in zip(labels, suffixes)
        ]
        if len(set(titles)) == len(titles):
            break
    return titles
