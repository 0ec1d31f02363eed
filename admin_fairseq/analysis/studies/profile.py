"""Study profiles, the measured variances Var f_i of a model's residual branches.

They are drawn over depth, with Admin's residual scales ω_i that they give.
"""

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
"""The sub-layers of one layer, in the order of the lines in profiles of the paper's release."""

QUANTITIES = {
    "branch_variance": "Var f_i(x_{i−1})",
    "omega": "ω_i",
    "own_share": "β_ii² = Var f_i / (ω_i² Var x_{i−1} + Var f_i)",
}


@dataclass
class ProfileFiles(FairseqDataclass):
    """The options of ``admin-fairseq analyze profile``."""

    profiles: Sequence[str] = option(
        (),
        "profile.json, or a profile of the paper's release",
        names=("profiles",),
        metavar="FILE",
        nargs="+",
        type=str,
    )


def more_profiles() -> Any:
    """Declare the option for profile files to draw together with the models' own profiles."""
    text = "profile files to draw together with the profiles of --arch"
    return option((), text, metavar="FILE", nargs="+", type=str)


@dataclass
class ProfilesAndModels(Models):
    """The options of this study within a report, which also measures models."""

    profiles: Sequence[str] = more_profiles()


@dataclass(frozen=True)
class ProfiledSubLayer:
    """Branch variance and residual scale ω of one sub-layer, with its own branch's share β_ii².

    ``own_share`` is β_ii² of Post-LN, as in section 4.2 of the Admin paper, assuming independent
    branch and input; None without variances.
    """

    stack: str
    layer: int
    sublayer: str
    branch_variance: Optional[float]
    omega: float
    own_share: Optional[float]


@dataclass(frozen=True)
class DrawnProfile:
    """A profile under the name that it has in the picture."""

    name: str
    sublayers: list[ProfiledSubLayer]


@dataclass(frozen=True)
class Result:
    """The result of ``admin-fairseq analyze profile``."""

    conditions: Optional[dict[str, Any]]  # of the models, if there are any
    profiles: list[DrawnProfile]

    @property
    def stacks(self) -> list[str]:
        """Return the names of all stacks (encoder, decoder) in the profiles."""
        return list(dict.fromkeys(s.stack for profile in self.profiles for s in profile.sublayers))


def _measure(options: Union[ProfileFiles, ProfilesAndModels]) -> Result:
    """Read the profile files and, in a report, add the profiles of the models.

    Raises AdminError if a file is not a profile.
    """
    names = _names(options.profiles)
    found = [(names[path], read_profile(path, RELEASE_SITES)) for path in options.profiles]
    conditions = None
    if isinstance(options, Models):
        found += _measured(options)
        conditions = options.conditions.plain
    return Result(conditions, [DrawnProfile(name, _sublayers(profile)) for name, profile in found])


def _measured(options: Models) -> list[tuple[str, Profile]]:
    """Build the models, and return the titles and profiles of those that have a profile."""
    found = [
        (MeasuredModel(**about), specimen.profile)
        for about, specimen in specimens(options, "profile")
    ]
    kept = [(model, profile) for model, profile in found if profile is not None]
    return list(zip(titles([model for model, _ in kept]), (profile for _, profile in kept)))


def _names(paths: Sequence[str]) -> dict[str, str]:
    """Return path → a title: folder and file name or, if not unique, the whole path."""
    short = {path: "/".join(os.path.abspath(path).split(os.sep)[-2:]) for path in paths}
    return short if len(set(short.values())) == len(paths) else {path: path for path in paths}


def _sublayers(profile: Profile) -> list[ProfiledSubLayer]:
    """Return the sub-layers of a profile, with the share of each one's own branch."""
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
    """Compute Var f / (ω² Var x + Var f), the branch's share of the output's variance."""
    if of_input is None or of_branch is None:
        return None
    total = omega**2 * of_input + of_branch
    return of_branch / total if total else None


def _rows(result: Result) -> list[Row]:
    """Return the rows of the CSV file: one per profile and sub-layer."""
    return [
        {"profile": profile.name, **vars(sublayer)}
        for profile in result.profiles
        for sublayer in profile.sublayers
    ]


def _of(profile: DrawnProfile, stack: str, quantity: str) -> list[float]:
    """Return one quantity of all sub-layers in a stack, NaN where it is unknown."""
    values = [getattr(s, quantity) for s in profile.sublayers if s.stack == stack]
    return [float("nan") if value is None else value for value in values]


def _draw(result: Result) -> dict[str, Picture]:
    """Describe the picture: panels for each stack and quantity, a line per profile."""
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
    """Return the findings as lines of text: one per profile and stack."""
    return [
        f"{profile.name}, {stack}: ω from {omegas[0]:.4g} to {omegas[-1]:.4g} over "
        f"{len(omegas)} sub-layers, largest {max(omegas):.4g}"
        for profile in result.profiles
        for stack in result.stacks
        for omegas in [_of(profile, stack, "omega")]
        if omegas
    ]


STUDY = Study(
    help="draw profile files: Var f and ω over depth",
    options=ProfileFiles,
    measure=_measure,
    rows=_rows,
    draw=_draw,
    read=_read,
    pictures=["profile"],
)
