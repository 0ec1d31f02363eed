"""``admin-fairseq analyze WHAT``."""

from __future__ import annotations

import logging
import shlex
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import asdict
from typing import Any, Iterable

from admin_fairseq.analysis import output
from admin_fairseq.analysis.bench import Bench, Conditions, Depth, Subject
from admin_fairseq.analysis.report import PAGE, report
from admin_fairseq.analysis.studies import STUDIES
from admin_fairseq.analysis.studies.study import Plan, Result, Study
from admin_fairseq.bounds import SEED, Bounds, counting
from admin_fairseq.commands.command import Command, add_force, drawing_or_none, positive
from admin_fairseq.config import LAYERS
from admin_fairseq.errors import AdminError, shortened
from admin_fairseq.fairseq_runs import quiet, running_out_of_memory
from admin_fairseq.provenance import installed_versions

logger = logging.getLogger(__name__)

ARCHS = ("postln_transformer_tiny", "preln_transformer_tiny", "admin_transformer_tiny")
ONE_DEPTH, MANY_DEPTHS = "18", "6,12,18,24,36,48"
SIZE = Bounds(1e-12)  # of a change; float32 knows no smaller one
EPILOG = "Words after -- are options of fairseq-train for every --arch, --share-all-embeddings say."


def depth(text: str) -> Depth:
    """``18`` (both stacks) or ``60-12`` (encoder, decoder)."""
    try:
        encoder, decoder = map(LAYERS, text.split("-") if "-" in text else (text, text))
    except (ArgumentTypeError, ValueError):
        raise ArgumentTypeError(
            f"{shortened(text, 100)!r} is no depth such as 18, or 60-12 (encoder, decoder), each "
            f"{LAYERS}"
        ) from None
    return Depth(encoder, decoder)


def depths(text: str) -> list[Depth]:
    return sorted({depth(part) for part in text.split(",")})


def _add_options(parser: ArgumentParser) -> None:
    whats = parser.add_subparsers(dest="what", metavar="WHAT", required=True)
    for what, study in STUDIES.items():
        sub = whats.add_parser(
            what, help=study.help, description=study.help, allow_abbrev=False, epilog=EPILOG
        )
        OPTIONS[what](sub)
        _add_output(sub)
    text = "all of these for several schemes, in one HTML page that needs no network"
    sub = whats.add_parser("report", help=text, description=text, allow_abbrev=False, epilog=EPILOG)
    _add_report(sub)
    _add_output(sub)


def _add_output(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output-dir", metavar="OUTDIR", required=True, help="folder to write to"
    )
    add_force(parser)


def _add_models(parser: ArgumentParser) -> None:
    def add(*names: str, **how: Any) -> None:
        parser.add_argument(*names, **how)

    add("--data", metavar="DATA_BIN", required=True, help="folder that fairseq-preprocess wrote")
    add(
        "--path",
        metavar="CHECKPOINT",
        action="append",
        default=[],
        help="a trained model, ours or fairseq's transformer (may be repeated)",
    )
    add(
        "--arch",
        metavar="ARCH",
        action="append",
        help="a model at its initialisation, ours or fairseq's (may be repeated); options of its "
        "own may follow in the same quotes: 'postln_transformer_tiny --decoder-normalize-before' "
        f"(default, without --path: {', '.join(ARCHS)})",
    )
    add("--init-type", metavar="SCHEME", help="scheme of every --arch, if not its own")
    add("--max-tokens", type=positive, default=1024, help="size of the batch (%(default)s)")
    add("--subset", default="valid", help="split that the batch is from (%(default)s)")
    add("--seed", type=SEED, default=1, help="of weights, batch and draws (%(default)s)")
    add("--cpu", action="store_true", help="the CPU even where there is a GPU")
    add("words", metavar="-- OPTION", nargs="*", help="options of fairseq-train")


def _add_depths(parser: ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--depths",
        type=depths,
        default=default,
        help="layers of every --arch: 6,12,18 (both stacks) or 12-3,60-12; not of those that say "
        "--encoder-layers or --decoder-layers themselves (%(default)s)",
    )


def _add_dependency(parser: ArgumentParser) -> None:
    _add_models(parser)
    _add_depths(parser, ONE_DEPTH)


def _add_amplification(parser: ArgumentParser) -> None:
    _add_models(parser)
    _add_depths(parser, MANY_DEPTHS)
    _add_sizes(parser)


def _add_sizes(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--seeds", type=counting(1, 1000), default=5, help="models of each depth (%(default)s)")
    add("--draws", type=counting(1, 1000), default=3, help="random changes of each (%(default)s)")
    add(
        "--size",
        type=SIZE,
        default=0.01,
        help="of a random change, relative to each matrix (%(default)s)",
    )
    add(
        "--gradient-size",
        type=SIZE,
        default=0.0001,
        help="of a step down the gradient, relative to each matrix (%(default)s)",
    )


def _add_gradients(parser: ArgumentParser) -> None:
    _add_models(parser)
    _add_depths(parser, ONE_DEPTH)
    _add_updates(parser)


def _add_updates(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--updates",
        type=counting(0, 100_000),
        default=10,
        help="then train so many updates (Adam, lr 5e-4 without warm-up, or as said after --) and "
        "look at gradients and updates; 0: none (%(default)s)",
    )


def _add_profile(parser: ArgumentParser) -> None:
    parser.add_argument("profiles", metavar="FILE", nargs="+", help="profile.json or the release's")


def _add_report(parser: ArgumentParser) -> None:
    _add_models(parser)
    _add_depths(parser, MANY_DEPTHS)
    _add_sizes(parser)
    _add_updates(parser)
    parser.add_argument(
        "--at-depth",
        type=depth,
        help="layers for what is not drawn against depth "
        f"({ONE_DEPTH}, or the deepest of --depths without it)",
    )
    parser.add_argument(
        "--profiles",
        metavar="FILE",
        nargs="+",
        default=[],
        help="profiles to draw beside those of the schemes that measure one",
    )


OPTIONS = {
    "dependency": _add_dependency,
    "amplification": _add_amplification,
    "gradients": _add_gradients,
    "profile": _add_profile,
}
"""WHAT → what adds its options."""

OWN_OPTIONS = {
    "dependency": (),
    "amplification": ("seeds", "draws", "size", "gradient_size"),
    "gradients": ("updates",),
    "report": ("at_depth", "seeds", "draws", "size", "gradient_size", "updates"),
}
"""WHAT → options that not every study has."""


def _plan(what: str, args: Namespace) -> Plan:
    """What the options mean for one study, be it asked for alone or as a part of a report."""
    if "data" not in args:
        return Plan(profiles=args.profiles)
    conditions = Conditions(
        args.data, args.max_tokens, args.subset, args.seed, args.cpu, tuple(args.words)
    )
    many = what == args.what or what == "amplification"
    given = vars(args)
    if args.seed + given.get("seeds", 1) - 1 not in SEED:
        raise AdminError(f"--seed {args.seed} with --seeds {args.seeds}: a seed is {SEED}")
    return Plan(
        Bench(conditions),
        _subjects(args),
        args.depths if many else [_at_depth(args)],
        **{
            name: given[name] for name in ("seeds", "draws", "size", "gradient_size") & given.keys()
        },
        updates=given.get("updates", 0),
        profiles=given.get("profiles", ()),
    )


def _at_depth(args: Namespace) -> Depth:
    """The depth of the studies of a report that have one."""
    usual = depth(ONE_DEPTH)
    return args.at_depth or (usual if usual in args.depths else args.depths[-1])


def _subjects(args: Namespace) -> list[Subject]:
    archs = args.arch or ([] if args.path else ARCHS)
    scheme = ["--init-type", args.init_type] if args.init_type else []
    subjects = [Subject((*_split(arch), *scheme)) for arch in archs]
    return list(dict.fromkeys([*subjects, *(Subject(path=path) for path in args.path)]))


def _split(arch: str) -> list[str]:
    try:
        words = shlex.split(arch)
    except ValueError as error:
        raise AdminError(f"--arch {arch}: {error}") from None
    if not words:
        raise AdminError("--arch wants the name of an architecture")
    return words


def _command(what: str, args: Namespace) -> str:
    """The command that makes one study alone, or the whole report."""
    words = ["admin-fairseq", "analyze", what]
    if what == "profile":
        return shlex.join([*words, *args.profiles, "-o", args.output_dir])
    words += ["--data", args.data]
    for option in ("path", "arch"):
        words += [word for value in getattr(args, option) or [] for word in (f"--{option}", value)]
    words += ["--depths", ",".join(map(str, _plan(what, args).depths))]
    for option in ("init_type", "max_tokens", "subset", "seed", *OWN_OPTIONS[what]):
        if getattr(args, option) is not None:
            words += ["--" + option.replace("_", "-"), str(getattr(args, option))]
    if what == "report" and args.profiles:
        words += ["--profiles", *args.profiles]
    words += (["--cpu"] if args.cpu else []) + ["-o", args.output_dir]
    return shlex.join(words + (["--", *args.words] if args.words else []))


def _run(args: Namespace) -> Iterable[str]:
    asked = STUDIES if args.what == "report" else {args.what: STUDIES[args.what]}
    names = [file for name, study in asked.items() for file in output.names_of(name, study)]
    names += [PAGE] if args.what == "report" else []
    output.check_folder(args.output_dir, names, args.force)
    drawing = drawing_or_none()
    results = {name: _measured(name, study, args) for name, study in asked.items()}
    results = {name: result for name, result in results.items() if asked[name].rows(result)}
    files: output.Files = {}
    for name, result in results.items():
        files.update(output.files_of(name, asked[name], result, drawing))
    if args.what == "report":
        files[PAGE] = report(results, files).encode()
    output.write(files, args.output_dir, args.force)
    for name, result in results.items():
        yield from asked[name].read(result)
    yield f"written to {args.output_dir}: {', '.join(files)}"


def _measured(name: str, study: Study, args: Namespace) -> Result:
    """What the study finds, and what it was made with."""
    plan = _plan(name, args)
    if args.what == "report":
        at = ",".join(map(str, plan.depths))
        logger.info("%s: %d models, layers %s ...", name, len(plan.subjects), at)
    with quiet(), running_out_of_memory():
        found = study.measure(plan)
    # in a report, profiles may be those of models, which files alone do not give
    alone = args.what if name == "profile" else name
    made_with = {"study": name, "command": _command(alone, args)}
    if plan.bench is not None:
        conditions = plan.bench.conditions
        device = conditions.device.type
        made_with["conditions"] = {**asdict(conditions), "device": device, "precision": "fp32"}
    versions = installed_versions("torch", "admin-fairseq", "fairseq", "fairseq-fixed")
    return {**made_with, "versions": versions, **found}


COMMAND = Command(_add_options, _run)
