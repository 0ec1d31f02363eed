"""Profiles drawn: Var f and ω over depth."""

from __future__ import annotations

import os
from typing import Any, Sequence

from admin_fairseq.analysis.studies.study import Picture, Plan, Result, Study, entry, titles
from admin_fairseq.hooks.recorder import Site
from admin_fairseq.pictures import Line, Panel
from admin_fairseq.profiling.profile import Profile, read_profile

RELEASE_SITES = [
    *(Site("encoder", 0, name) for name in ("self_attn", "ffn")),
    *(Site("decoder", 0, name) for name in ("self_attn", "encoder_attn", "ffn")),
]
"""The sub-layers of a layer: what the numbered lines of the release's text stand for."""

QUANTITIES = {
    "branch_variance": "Var f_i(x_{i−1})",
    "omega": "ω_i",
    "own_share": "β_ii² = Var f_i / (ω_i² Var x_{i−1} + Var f_i)",
}


def _measure(plan: Plan) -> Result:
    names = _names(plan.profiles)
    found = [(names[path], read_profile(path, RELEASE_SITES)) for path in plan.profiles]
    if plan.bench is not None:
        found += _measured(plan)
    return {"profiles": [_described(name, profile) for name, profile in found]}


def _measured(plan: Plan) -> list[tuple[str, Profile]]:
    """The profiles of the models that have one, with the models' titles."""
    specimens = [
        (entry(subject, seed, specimen), specimen.profile)
        for subject, seed, specimen in plan.specimens("profile")
    ]
    kept = [(model, profile) for model, profile in specimens if profile is not None]
    return list(zip(titles(model for model, _ in kept), (profile for _, profile in kept)))


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Path → what to call it: its folder's name and its own."""
    short = {path: "/".join(os.path.abspath(path).split(os.sep)[-2:]) for path in paths}
    return short if len(set(short.values())) == len(paths) else {path: path for path in paths}


def _described(name: str, profile: Profile) -> Result:
    """A profile in a result; ``own_share`` is β_ii² of Post-LN, None where there are no variances.

    β_ii as in section 4.2 of the Admin paper, branch and input taken for independent.
    """
    sublayers = []
    for site in profile.entries:
        share = None
        if site.branch_variance is not None and site.input_variance is not None:
            total = site.omega**2 * site.input_variance + site.branch_variance
            share = site.branch_variance / total if total else None
        sublayers.append(
            {
                **{"stack": site.stack, "layer": site.layer, "sublayer": site.sublayer},
                "branch_variance": site.branch_variance,
                **{"omega": site.omega, "own_share": share},
            }
        )
    return {"name": name, "sublayers": sublayers}


def _rows(result: Result) -> list[dict[str, Any]]:
    return [
        {"profile": profile["name"], **sublayer}
        for profile in result["profiles"]
        for sublayer in profile["sublayers"]
    ]


def _of(profile: Result, stack: str, quantity: str) -> list[float]:
    values = [s[quantity] for s in profile["sublayers"] if s["stack"] == stack]
    return [float("nan") if value is None else value for value in values]


def _stacks(result: Result) -> list[str]:
    return list(dict.fromkeys(row["stack"] for row in _rows(result)))


def _draw(result: Result) -> dict[str, Picture]:
    panels = [
        Panel(
            stack,
            f"{stack} sub-layer i",
            label,
            [
                Line(range(1, len(values) + 1), values, profile["name"], color)
                for color, profile in enumerate(result["profiles"])
                for values in [_of(profile, stack, quantity)]
                if values
            ],
        )
        for stack in _stacks(result)
        for quantity, label in QUANTITIES.items()
    ]
    caption = "Admin's profile: variance of every branch, ω, and the branch's share of the output"
    return {"profile": Picture(caption, panels, len(QUANTITIES), share=False)}


def _read(result: Result) -> list[str]:
    return [
        f"{profile['name']}, {stack}: ω from {omegas[0]:.4g} to {omegas[-1]:.4g} over "
        f"{len(omegas)} sub-layers, largest {max(omegas):.4g}"
        for profile in result["profiles"]
        for stack in _stacks(result)
        for omegas in [_of(profile, stack, "omega")]
        if omegas
    ]


STUDY = Study(
    "profile files drawn: Var f and ω over depth", _measure, _rows, _draw, _read, ("profile",)
)
