"""Profiles: Var f and ω over depth."""

# no postponed annotations: fairseq's parser generator reads types
import os
from dataclasses import dataclass
from typing import Any, Optional, Sequence, Union

from fairseq.dataclass import FairseqDataclass

from admin_fairseq.analysis.options import Models
from admin_fairseq.analysis.studies.models import MeasuredModel, specimens, titles
from admin_fairseq.hooks.recorder import Site
from admin_fairseq.profiling.profile import Profile, read_profile
from admin_fairseq.studies.options import option
from admin_fairseq.studies.pictures import Line, Panel, Picture
from admin_fairseq.studies.study import Row, Study

RELEASE_SITES = [
    *(Site("encoder", 0, name) for name in ("self_attn", "ffn")),
    *(Site("decoder", 0, name) for name in ("self_attn", "encoder_attn", "ffn")),
]
"""The sub-layers of a layer, to which the numbered lines of the release's files refer."""

QUANTITIES = {
    "branch_variance": "Var f_i(x_{i−1})",
    "omega": "ω_i",
    "own_share": "β_ii² = Var f_i / (ω_i² Var x_{i−1} + Var f_i)",
}


@dataclass
class ProfileFiles(FairseqDataclass):
    profiles: Sequence[str] = option(
        (),
        "profile.json or the release's",
        names=("profiles",),
        metavar="FILE",
        nargs="+",
        type=str,
    )


def more_profiles() -> Any:
    """The option for files to draw together with the models' own profiles."""
    text = "profiles to draw together with those of schemes that measure one"
    return option((), text, metavar="FILE", nargs="+", type=str)


@dataclass
class ProfilesAndModels(Models):
    profiles: Sequence[str] = more_profiles()


@dataclass(frozen=True)
class ProfiledSubLayer:
    """``own_share`` is β_ii² of Post-LN, None without variances.

    β_ii is as in section 4.2 of the Admin paper, assuming independent branch and input.
    """

    stack: str
    layer: int
    sublayer: str
    branch_variance: Optional[float]
    omega: float
    own_share: Optional[float]


@dataclass(frozen=True)
class DrawnProfile:
    name: str
    sublayers: list[ProfiledSubLayer]


@dataclass(frozen=True)
class Result:
    conditions: Optional[dict[str, Any]]  # of the models, if there are any
    profiles: list[DrawnProfile]

    @property
    def stacks(self) -> list[str]:
        return list(dict.fromkeys(s.stack for profile in self.profiles for s in profile.sublayers))


def _measure(options: Union[ProfileFiles, ProfilesAndModels]) -> Result:
    names = _names(options.profiles)
    found = [(names[path], read_profile(path, RELEASE_SITES)) for path in options.profiles]
    conditions = None
    if isinstance(options, Models):
        found += _measured(options)
        conditions = options.conditions.plain
    return Result(conditions, [DrawnProfile(name, _sublayers(profile)) for name, profile in found])


def _measured(options: Models) -> list[tuple[str, Profile]]:
    """The profiles of the models that have one, with the models' titles."""
    found = [
        (MeasuredModel(**about), specimen.profile)
        for about, specimen in specimens(options, "profile")
    ]
    kept = [(model, profile) for model, profile in found if profile is not None]
    return list(zip(titles([model for model, _ in kept]), (profile for _, profile in kept)))


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Path → its title: folder and file name, or the whole path where these are not unique."""
    short = {path: "/".join(os.path.abspath(path).split(os.sep)[-2:]) for path in paths}
    return short if len(set(short.values())) == len(paths) else {path: path for path in paths}


def _sublayers(profile: Profile) -> list[ProfiledSubLayer]:
    return [
        ProfiledSubLayer(
            site.stack,
            site.layer,
            site.sublayer,
            site.branch_variance,
            site.omega,
            _own_share(site.omega, site.input_variance, site.branch_variance),
        )
        for site in profile.entries
    ]


def _own_share(
    omega: float, of_input: Optional[float], of_branch: Optional[float]
) -> Optional[float]:
    if of_input is None or of_branch is None:
        return None
    total = omega**2 * of_input + of_branch
    return of_branch / total if total else None


def _rows(result: Result) -> list[Row]:
    return [
        {"profile": profile.name, **vars(sublayer)}
        for profile in result.profiles
        for sublayer in profile.sublayers
    ]


def _of(profile: DrawnProfile, stack: str, quantity: str) -> list[float]:
    values = [getattr(s, quantity) for s in profile.sublayers if s.stack == stack]
    return [float("nan") if value is None else value for value in values]


def _draw(result: Result) -> dict[str, Picture]:
    panels = [
        Panel(
            stack,
            f"{stack} sub-layer i",
            label,
            [
                Line(range(1, len(values) + 1), values, profile.name, color)
                for color, profile in enumerate(result.profiles)
                for values in [_of(profile, stack, quantity)]
                if values
            ],
        )
        for stack in result.stacks
        for quantity, label in QUANTITIES.items()
    ]
    caption = "Admin's profile: variance of every branch, ω, and the branch's share of the output"
    return {"profile": Picture(caption, panels, len(QUANTITIES), share=False)}


def _read(result: Result) -> list[str]:
    return [
        f"{profile.name}, {stack}: ω from {omegas[0]:.4g} to {omegas[-1]:.4g} over "
        f"{len(omegas)} sub-layers, largest {max(omegas):.4g}"
        for profile in result.profiles
        for stack in result.stacks
        for omegas in [_of(profile, stack, "omega")]
        if omegas
    ]


STUDY = Study(
    help="profile files drawn: Var f and ω over depth",
    options=ProfileFiles,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["profile"],
)
