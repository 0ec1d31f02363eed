"""The options that ``admin-fairseq train`` and ``evaluate`` share, and the runs they select."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Optional

from admin_fairseq.errors import AdminError
from admin_fairseq.recipes.published import PUBLISHED
from admin_fairseq.recipes.recipe import Published, Recipe

PRECISIONS = ("auto", "fp32", "fp16", "bf16")


@dataclass(frozen=True)
class RunOptions:
    """The options that ``admin-fairseq train`` and ``evaluate`` share, under the same names."""

    dataset: str
    recipe: Optional[str]
    scheme: str
    encoder_layers: int
    decoder_layers: int
    seeds: Optional[list[int]]
    data_dir: Optional[str]
    save_dir: Optional[str]
    precision: str
    cpu: bool
    dry_run: bool
    words: list[str]  # the arguments after --, passed on to fairseq


@dataclass(frozen=True)
class Runs:
    """The runs that the options select, one for each seed: recipe, data and folders."""

    options: RunOptions

    @property
    def published(self) -> Published:
        """The published runs on the data set."""
        return PUBLISHED[self.options.dataset]

    @property
    def recipe_name(self) -> Optional[str]:
        """The value of --recipe, or the data set's default, which can be None."""
        return self.options.recipe or self.published.recipe

    @property
    def recipe(self) -> Recipe:
        """The published recipe for this scheme and depth."""
        options = self.options
        return self.published.choose(self.recipe_name, options.scheme, options.encoder_layers)

    @property
    def layers(self) -> tuple[int, int]:
        """The numbers of encoder and decoder layers."""
        return self.options.encoder_layers, self.options.decoder_layers

    @property
    def seeds(self) -> list[int]:
        """The random seeds, one run for each: --seeds, or else the recipe's."""
        return self.options.seeds or list(self.recipe.seeds)

    @property
    def data_dir(self) -> str:
        """The folder that ``admin-fairseq prepare`` has written."""
        return self.options.data_dir or os.path.join("data", self.options.dataset)

    @property
    def data_bin(self) -> str:
        """The folder of the data in fairseq's binary format."""
        return os.path.join(self.data_dir, "bin")

    @property
    def save_dir(self) -> str:
        """The folder that contains the folders of the runs."""
        return self.options.save_dir or os.path.join("runs", self.options.dataset)

    def folder(self, seed: int) -> str:
        """Return the path of the folder for the run with this seed; the folder need not exist."""
        scheme = "-".join(filter(None, (self.options.scheme, self.recipe_name)))
        encoder, decoder = self.layers
        return os.path.join(self.save_dir, f"{scheme}-{encoder}l-{decoder}l-seed{seed}")

    @property
    def folders(self) -> list[str]:
        """The folders of the runs, one for each seed."""
        return [self.folder(seed) for seed in self.seeds]

    def words(self, command: str, seed: int) -> list[str]:
        """Return the command line of ``admin-fairseq train`` or ``evaluate`` for one of the runs.

        Options that only one of them has are left out.
        """
        asked = self.options
        options = {
            "--recipe": asked.recipe,
            "--scheme": asked.scheme,
            "--encoder-layers": asked.encoder_layers,
            "--decoder-layers": asked.decoder_layers,
            "--seeds": seed,
            "--precision": asked.precision,
            "--data-dir": self.data_dir,
            "--save-dir": self.save_dir,
        }
        words = ["admin-fairseq", command, asked.dataset, *(["--cpu"] if asked.cpu else [])]
        for option, value in options.items():
            words += [option, str(value)] if value is not None else []
        return words

    def precision(self, cpu: bool) -> str:
        """Choose fp32, fp16 or bf16 from --precision, the recipe and the device; raise AdminError
        for fp16 on a CPU."""
        asked = self.options.precision
        if cpu and asked == "fp16":
            raise AdminError("--precision fp16 needs a GPU; leave it out, or use bf16 or fp32")
        auto = "fp16" if self.recipe.half["common.fp16"] and not cpu else "fp32"
        return auto if asked == "auto" else asked
