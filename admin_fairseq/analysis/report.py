"""Report all studies of some models on one HTML page (``admin-fairseq analyze report``)."""

# no postponed annotations: fairseq's parser generator reads types
import shlex
from dataclasses import dataclass
from typing import Mapping, Sequence

from fairseq.dataclass import FairseqDataclass

from admin_fairseq.analysis.options import ONE_DEPTH, Models
from admin_fairseq.analysis.page import Section, page
from admin_fairseq.analysis.studies import amplification, gradients, magnitude, profile, training
from admin_fairseq.studies.options import Depth, depth, depths, option, shared
from admin_fairseq.studies.study import Finding, Report


@dataclass
class Options(amplification.Options):
    """The options of all studies in the report, and ``--at-depth`` for those at a single depth."""

    updates: int = gradients.training_updates()
    at_depth: Sequence[Depth] = depths(
        None,
        "layers in studies at a single depth "
        f"(default: {ONE_DEPTH} if it is among --depths, else the deepest of them)",
    )
    profiles: Sequence[str] = profile.more_profiles()
    runs: Sequence[str] = option(
        (),
        "folders of runs that were trained on the same data with --log-dynamics",
        metavar="RUN",
        nargs="+",
        type=str,
    )


def _parts(options: Options) -> dict[str, FairseqDataclass]:
    """Return the options of each study in the report, by the study's name."""
    usual = depth(ONE_DEPTH)
    at = options.at_depth or ((usual if usual in options.depths else options.depths[-1]),)
    training.check_runs(options.runs)  # before the other studies, which take minutes
    shown = options.conditions
    watched = training.Runs(runs=tuple(options.runs), data=shown.data, cpu=shown.cpu)
    return {
        "dependency": shared(options, Models, depths=at),
        "amplification": shared(options, amplification.Options),
        "gradients": shared(options, gradients.Options, depths=at),
        "magnitude": shared(options, magnitude.Options, depths=at, arch=tuple(options.archs)),
        "profile": shared(options, profile.ProfilesAndModels, depths=at),
        **({"training": watched} if options.runs else {}),
    }


def _page(findings: Sequence[Finding], files: Mapping[str, bytes]) -> str:
    """Return the HTML page about the findings, with the pictures in ``files`` (name → content)."""
    conditions = findings[0].result.conditions
    conditions = {**conditions, "words": shlex.join(conditions["words"])}
    facts = {**conditions, **findings[0].made_with["versions"]}
    shown = {name.replace("_", " "): str(value) for name, value in facts.items() if value != ""}
    return page("Why it trains or fails", shown, [_section(found, files) for found in findings])


def _section(found: Finding, files: Mapping[str, bytes]) -> Section:
    """Build the section of one study, with those of its pictures that could be drawn."""
    study, result = found.study, found.result
    pictures = [
        (described.caption, files[f"{picture}.svg"])
        for picture, described in study.draw(result).items()
        if f"{picture}.svg" in files
    ]
    title, command = found.name.capitalize(), found.made_with["command"]
    return Section(title, command, study.read(result), pictures)


REPORT = Report(
    help="run all studies of admin-fairseq analyze for several schemes, and write one HTML page "
    "about them that needs no network",
    options=Options,
    parts=_parts,
    page="report.html",
    written=_page,
)
