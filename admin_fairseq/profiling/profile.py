"""The profile file: Admin's residual scale ω of every sub-layer, and the measured variances.

Written as JSON; the text files of the original Admin release (``INDEX RATIO`` lines, RATIO being ω)
can be read too.
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
"""Admin's residual scale ω: positive, and a normal number in float32, as the model stores it."""
Stack = Annotated[str, Meta(pattern=r"\A(encoder|decoder)\Z")]
Sublayer = Annotated[str, Meta(pattern=r"\A(self_attn|encoder_attn|ffn)\Z")]
Variance = Optional[Annotated[float, Meta(ge=0)]]
ReleaseLine = tuple[Annotated[int, Meta(ge=1)], Omega]


@dataclass(frozen=True)
class Entry:
    """One sub-layer of a profile: its place, Admin's residual scale ω, and measured variances.

    A variance, from which ω is computed, is over all elements of the sub-layer's input or residual
    branch; it is None in profiles of the original Admin release, which record no variances.
    """

    stack: Stack
    layer: Annotated[int, Meta(ge=0)]
    sublayer: Sublayer
    input_variance: Variance
    branch_variance: Variance
    omega: Omega

    @property
    def site(self) -> Site:
        """The sub-layer's place in the model: stack, layer, kind."""
        return Site(self.stack, self.layer, self.sublayer)


@dataclass(frozen=True)
class _File:
    """The content of a profile's JSON file, which reading checks against these types."""

    format: Literal["admin-fairseq profile"]
    version: Literal[1]
    model: dict[str, int]
    measurement: dict[str, Union[int, float, str, None]]
    packages: dict[str, str]
    sublayers: Annotated[list[Entry], Meta(min_length=1)]


@dataclass(frozen=True)
class Profile:
    """A profile (measured per-layer variances): one entry per sub-layer, encoder first.

    ``model`` holds the model's depths and dimensions, ``measurement`` how the profile was measured,
    ``packages`` with which versions.
    """

    entries: list[Entry]
    model: dict[str, int] = field(default_factory=dict)
    measurement: dict[str, Union[int, float, str, None]] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)

    def write(self, path: str) -> None:
        """Write this profile to the JSON file ``path``; if writing fails, the old file remains."""
        about = self.model, self.measurement, self.packages
        write_json(asdict(_File("admin-fairseq profile", 1, *about, self.entries)), path)

    def omegas_for(self, sites: Iterable[Site], dims: dict[str, int]) -> list[float]:
        """Return Admin's residual scale ω for each of ``sites``, a model's sub-layers, in order.

        ``dims`` are the model's dimensions, under the names in the file (profiles of the original
        release record none). Raises AdminError unless the profile has exactly these sub-layers and
        dimensions.
        """
        sites = list(sites)
        for name, dim in dims.items():
            profiled = self.model.get(name, dim)
            if profiled != dim:
                raise AdminError(f"made for {name} {profiled}, but the model has {dim}")
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
    """Return the numbers of encoder and decoder layers among ``sites``."""
    depths = {"encoder": 0, "decoder": 0}
    for site in sites:
        depths[site.stack] = max(depths[site.stack], site.layer + 1)
    return depths


def _check_depths(profiled: list[Site], wanted: list[Site]) -> None:
    """Raise AdminError if a profile and a model have different numbers of layers.

    ``profiled`` and ``wanted`` list their sub-layers; encoder and decoder are counted separately.
    """
    there, here = _depths(profiled), _depths(wanted)
    if there != here:
        raise AdminError(
            f"made for {there['encoder']} encoder and {there['decoder']} decoder layers, "
            f"but the model has {here['encoder']} and {here['decoder']}"
        )


def read_profile(path: str, sites: Iterable[Site] = ()) -> Profile:
    """Read a profile from JSON, or from the text of the original Admin release.

    The lines of that text name no sub-layers: they follow ``sites``, the model's. Raises AdminError
    for a file that is neither.
    """
    text = read_text(path, LARGEST_FILE)
    with blaming(path):
        if text.lstrip().startswith("{"):
            return _from_json(text)
        return _from_release_text(text, list(sites))


def _from_json(text: str) -> Profile:
    """Parse a profile's JSON; raise AdminError if it is damaged or lists a sub-layer twice."""
    file = check_json(text, _File, WHAT)
    site, times = Counter(entry.site for entry in file.sublayers).most_common(1)[0]
    if times > 1:
        raise AdminError(f"damaged profile: {site} occurs twice; make it again")
    return Profile(file.sublayers, file.model, file.measurement, file.packages)


def _from_release_text(text: str, sites: list[Site]) -> Profile:
    """Parse a profile of the original Admin release, whose lines do not name sub-layers.

    The kinds of ``sites``, the model's sub-layers, are assigned to its lines in turn. Raises
    AdminError if the text is cut off or does not suit the model's encoder and decoder.
    """
    ratios = _release_ratios(text)
    if not text.endswith("\n"):
        raise AdminError("cut off: its last line does not end in a newline")
    entries = []
    for stack, values in ratios.items():
        kinds = list(dict.fromkeys(site.sublayer for site in sites if site.stack == stack))
        if values and not kinds:
            raise AdminError(f"has ω for the {stack}, but the model has no {stack}")
        for i, ratio in enumerate(values):
            kind = kinds[i % len(kinds)]
            entries.append(Entry(stack, i // len(kinds), kind, None, None, ratio))
    return Profile(entries)


def _release_ratios(text: str) -> dict[str, list[float]]:
    """Parse a profile of the original Admin release; return the residual scales ω of each stack.

    Each line is ``INDEX RATIO`` (RATIO being ω). Lines number the encoder's sub-layers from 1, then
    the decoder's, again from 1. Raises AdminError for another format.
    """
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
