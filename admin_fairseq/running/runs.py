"""The options that training and evaluation share, and the runs that they stand for."""

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
    """Fields have the names of the command line."""

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
    words: list[str]  # passed on to fairseq


@dataclass(frozen=True)
class Runs:
    """The runs, one for each seed, and their folders."""

    options: RunOptions

    @property
    def published(self) -> Published:
        return PUBLISHED[self.options.dataset]

    @property
    def recipe_name(self) -> Optional[str]:
        return self.options.recipe or self.published.recipe

    @property
    def recipe(self) -> Recipe:
        options = self.options
        return self.published.choose(self.recipe_name, options.scheme, options.encoder_layers)

    @property
    def layers(self) -> tuple[int, int]:
        return self.options.encoder_layers, self.options.decoder_layers

    @property
    def seeds(self) -> list[int]:
        return self.options.seeds or list(self.recipe.seeds)

    @property
    def data_dir(self) -> str:
        return self.options.data_dir or os.path.join("data", self.options.dataset)

    @property
    def data_bin(self) -> str:
        return os.path.join(self.data_dir, "bin")

    @property
    def save_dir(self) -> str:
        return self.options.save_dir or os.path.join("runs", self.options.dataset)

    def folder(self, seed: int) -> str:
        """The folder of a run, whether it exists or not."""
        scheme = "-".join(filter(None, (self.options.scheme, self.recipe_name)))
        encoder, decoder = self.layers
        return os.path.join(self.save_dir, f"{scheme}-{encoder}l-{decoder}l-seed{seed}")

    @property
    def folders(self) -> list[str]:
        return [self.folder(seed) for seed in self.seeds]

    def precision(self, cpu: bool) -> str:
        """fp32, fp16 or bf16; raises AdminError if the device does not support it."""
        asked = self.options.precision
        if cpu and asked == "fp16":
            raise AdminError("--precision fp16 needs a GPU; leave it out, or take bf16 or fp32")
        auto = "fp16" if self.recipe.half["common.fp16"] and not cpu else "fp32"
        return auto if asked == "auto" else asked
