"""The profile file: one ω per sub-layer and the variances it was computed from.

It is written as JSON; the text files of the original release (``INDEX RATIO`` lines) are read too.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Annotated, Iterable, Literal, Optional, Union

import msgspec
import torch
from msgspec import Meta

from admin_fairseq.errors import AdminError, blaming, shortened
from admin_fairseq.files import check_json, read_text, write_json
from admin_fairseq.hooks.recorder import Site

LARGEST_FILE = 4 << 20  # bytes: some 20,000 sub-layers
WHAT = "a profile of version 1, as --init-type adaptive-profiling writes it"

_FLOAT32 = torch.finfo(torch.float32)
Omega = Annotated[float, Meta(ge=_FLOAT32.tiny, le=_FLOAT32.max)]
"""ω as the model stores it: positive, and a normal number in float32."""
Stack = Annotated[str, Meta(pattern=r"\A(encoder|decoder)\Z")]
Sublayer = Annotated[str, Meta(pattern=r"\A(self_attn|encoder_attn|ffn)\Z")]
Variance = Optional[Annotated[float, Meta(ge=0)]]
ReleaseLine = tuple[Annotated[int, Meta(ge=1)], Omega]


@dataclass(frozen=True)
class Entry:
    """One sub-layer. Variances are over all elements; the release's text files have none."""

    stack: Stack
    layer: Annotated[int, Meta(ge=0)]
    sublayer: Sublayer
    input_variance: Variance
    branch_variance: Variance
    omega: Omega

    @property
    def site(self) -> Site:
        return Site(self.stack, self.layer, self.sublayer)


@dataclass(frozen=True)
class _File:
    """The JSON file."""

    format: Literal["admin-fairseq profile"]
    version: Literal[1]
    model: dict[str, int]
    measurement: dict[str, Union[int, float, str, None]]
    packages: dict[str, str]
    sublayers: Annotated[list[Entry], Meta(min_length=1)]


@dataclass(frozen=True)
class Profile:
    """Entries in order, encoder first, and what produced them."""

    entries: list[Entry]
    model: dict[str, int] = field(default_factory=dict)
    measurement: dict[str, Union[int, float, str, None]] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)

    def write(self, path: str) -> None:
        """Write JSON, whole or not at all."""
        about = self.model, self.measurement, self.packages
        write_json(asdict(_File("admin-fairseq profile", 1, *about, self.entries)), path)

    def omegas_for(self, sites: Iterable[Site], dims: dict[str, int]) -> list[float]:
        """ω of each of ``sites``, in order; raises AdminError unless the profile fits exactly.

        ``dims``: the model's dimensions, under their names in the file (the release's text has
        none).
        """
        sites = list(sites)
        for name, dim in dims.items():
            profiled = self.model.get(name, dim)
            if profiled != dim:
                raise AdminError(f"made for {name} {profiled}, the model has {dim}")
        found = {entry.site: entry.omega for entry in self.entries}
        _check_depths(list(found), sites)
        for site in sites:
            if site not in found:
                raise AdminError(f"{site} is missing")
        extra = next((site for site in found if site not in sites), None)
        if extra is not None:
            raise AdminError(f"{extra} is not in the model")
        return [found[site] for site in sites]


def _depths(sites: Iterable[Site]) -> dict[str, int]:
    depths = {"encoder": 0, "decoder": 0}
    for site in sites:
        depths[site.stack] = max(depths[site.stack], site.layer + 1)
    return depths


def _check_depths(profiled: list[Site], wanted: list[Site]) -> None:
    there, here = _depths(profiled), _depths(wanted)
    if there != here:
        raise AdminError(
            f"made for {there['encoder']} encoder and {there['decoder']} decoder layers, "
            f"the model has {here['encoder']} and {here['decoder']}"
        )


def read_profile(path: str, sites: Iterable[Site]) -> Profile:
    """Read JSON, or the release's text, whose lines follow ``sites``, those of the model.

    Raises AdminError for a file that is neither.
    """
    text = read_text(path, LARGEST_FILE)
    with blaming(path):
        if text.lstrip().startswith("{"):
            return _from_json(text)
        return _from_release_text(text, list(sites))


def _from_json(text: str) -> Profile:
    file = check_json(text, _File, WHAT)
    site, times = Counter(entry.site for entry in file.sublayers).most_common(1)[0]
    if times > 1:
        raise AdminError(f"damaged profile: {site} occurs twice; make it again")
    return Profile(file.sublayers, file.model, file.measurement, file.packages)


def _from_release_text(text: str, sites: list[Site]) -> Profile:
    ratios = _release_ratios(text)
    if not text.endswith("\n"):
        raise AdminError("cut off: its last line does not end in a newline")
    entries = []
    for stack, values in ratios.items():
        kinds = list(dict.fromkeys(site.sublayer for site in sites if site.stack == stack))
        if values and not kinds:
            raise AdminError(f"has ω for the {stack}, where the model has none")
        for i, ratio in enumerate(values):
            kind = kinds[i % len(kinds)]
            entries.append(Entry(stack, i // len(kinds), kind, None, None, ratio))
    return Profile(entries)


def _release_ratios(text: str) -> dict[str, list[float]]:
    """``INDEX RATIO`` lines: the encoder's sub-layers from 1, then the decoder's, again from 1."""
    ratios: dict[str, list[float]] = {"encoder": [], "decoder": []}
    stack = "encoder"
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            index, ratio = msgspec.convert(line.split(), ReleaseLine, strict=False)
        except msgspec.ValidationError as error:
            raise AdminError(
                f"line {number}, {shortened(line, 60)!r}, is neither {WHAT}, nor the "
                f"release's 'INDEX RATIO': {error}"
            ) from None
        if index == 1 and ratios["encoder"]:
            stack = "decoder"
        if index != len(ratios[stack]) + 1:
            raise AdminError(f"line {number} has index {index}, expected {len(ratios[stack]) + 1}")
        ratios[stack].append(ratio)
    if not ratios["encoder"]:
        raise AdminError("not a profile (it is empty)")
    return ratios
