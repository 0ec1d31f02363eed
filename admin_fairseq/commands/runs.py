"""Options that the subcommands train, evaluate and table share."""

from __future__ import annotations

import re
from argparse import ArgumentParser, ArgumentTypeError

from admin_fairseq.commands.command import positive
from admin_fairseq.errors import shortened
from admin_fairseq.recipes.published import PUBLISHED
from admin_fairseq.recipes.recipe import SCHEME_NAMES
from admin_fairseq.running.runs import PRECISIONS

RECIPES = "; ".join(
    f"{name}: {', '.join(dict.fromkeys(recipe.name for recipe in published.recipes))}"
    for name, published in PUBLISHED.items()
)


def numbers(text: str) -> list[int]:
    """Parse an option's value such as ``"1 2"`` into whole numbers, each once; an argparse type."""
    if not re.fullmatch(r" *[0-9]{1,9}( +[0-9]{1,9})* *", text):
        raise ArgumentTypeError(f"{shortened(text, 100)!r}: use numbers with spaces between them")
    return list(dict.fromkeys(map(int, text.split())))


def add_data_set(parser: ArgumentParser) -> None:
    """Add the options that train, evaluate and table share: data set, recipe, folders, device."""
    parser.add_argument(
        "dataset", metavar="DATASET", choices=list(PUBLISHED), help="one of " + ", ".join(PUBLISHED)
    )
    parser.add_argument(
        *("--recipe", "--batches"),
        metavar="NAME",
        help="published settings to use (default: the settings of the published run with this "
        f"scheme and depth); {RECIPES}; of WMT17, the number of batches of 4096 tokens in an "
        "update (default: 8)",
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", help="folder that prepare has written (default: data/DATASET)"
    )
    parser.add_argument(
        "--save-dir",
        metavar="DIR",
        help="folder in which each run gets a folder (default: runs/DATASET)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        default="auto",
        help="auto: the recipe's on a GPU (mostly fp16), fp32 on a CPU (default: %(default)s)",
    )
    parser.add_argument("--cpu", action="store_true", help="use the CPU even if there is a GPU")
    parser.add_argument("--dry-run", action="store_true", help="print every command and stop")


def add_runs(parser: ArgumentParser) -> None:
    """Add the options that train and evaluate share: those of ``add_data_set``, scheme, depths and
    seeds."""
    add_data_set(parser)
    parser.add_argument(
        "--scheme",
        metavar="NAME",
        choices=SCHEME_NAMES,
        default="admin",
        help="postln, preln, postln-preln (Post-LN encoder, Pre-LN decoder) or a value of "
        "--init-type (default: %(default)s)",
    )
    for stack in ("encoder", "decoder"):
        parser.add_argument(
            f"--{stack}-layers",
            metavar="N",
            type=positive,
            default=6,
            help=f"{stack} depth (default: %(default)s)",
        )
    parser.add_argument(
        "--seeds",
        metavar='"1 2"',
        type=numbers,
        help="random seeds, one run for each (default: the published ones)",
    )
