"""The profile file: one ω per sub-layer and the variances it came from.

Written as JSON; the text files of the original release (``INDEX RATIO`` lines) are read too.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Iterable, Optional

from admin_fairseq.errors import AdminError
from admin_fairseq.files import write_json
from admin_fairseq.profiling.recorder import Site

FORMAT = "admin-fairseq profile"
VERSION = 1


@dataclass(frozen=True)
class Entry:
    """One sub-layer. Variances are over all elements; the release's text files have none."""

    stack: str
    layer: int
    sublayer: str
    input_variance: Optional[float]
    branch_variance: Optional[float]
    omega: float

    @property
    def site(self) -> Site:
        return Site(self.stack, self.layer, self.sublayer)


@dataclass(frozen=True)
class Profile:
    """Entries in order, encoder first, and what produced them."""

    entries: list[Entry]
    model: dict[str, Any] = field(default_factory=dict)
    measurement: dict[str, Any] = field(default_factory=dict)
    packages: dict[str, str] = field(default_factory=dict)

    def write(self, path: str) -> None:
        """Write JSON, whole or not at all."""
        content = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model,
            "measurement": self.measurement,
            "packages": self.packages,
            "sublayers": [asdict(entry) for entry in self.entries],
        }
        write_json(content, path)

    def omegas_for(self, sites: Iterable[Site], dims: dict[str, int], path: str) -> list[float]:
        """ω of each of ``sites``, in order; raises AdminError unless the profile fits exactly.

        ``dims``: the model's dimensions, under the names that they have in the file (the
        release's text has none). ``path`` is named in the error.
        """
        sites = list(sites)
        for name, dim in dims.items():
            profiled = self.model.get(name, dim)
            if profiled != dim:
                raise AdminError(f"{path}: made for {name} {profiled}, the model has {dim}")
        found: dict[Site, float] = {}
        for entry in self.entries:
            if entry.site in found:
                raise AdminError(f"{path}: {entry.site} occurs twice")
            if not (math.isfinite(entry.omega) and entry.omega > 0):
                raise AdminError(
                    f"{path}: {entry.site} has omega {entry.omega}; it must be positive and finite"
                )
            found[entry.site] = entry.omega
        _check_depths(list(found), sites, path)
        for site in sites:
            if site not in found:
                raise AdminError(f"{path}: {site} is missing")
        extra = next((site for site in found if site not in sites), None)
        if extra is not None:
            raise AdminError(f"{path}: {extra} is not in the model")
        return [found[site] for site in sites]


def _depths(sites: Iterable[Site]) -> dict[str, int]:
    depths = {"encoder": 0, "decoder": 0}
    for site in sites:
        depths[site.stack] = max(depths[site.stack], site.layer + 1)
    return depths


def _check_depths(profiled: list[Site], wanted: list[Site], path: str) -> None:
    there, here = _depths(profiled), _depths(wanted)
    if there != here:
        raise AdminError(
            f"{path}: made for {there['encoder']} encoder and {there['decoder']} decoder layers, "
            f"the model has {here['encoder']} and {here['decoder']}"
        )


def read_profile(path: str, sites: Iterable[Site]) -> Profile:
    """Read JSON or the release's text, whose lines are numbered along ``sites`` of the model.

    Raises AdminError for a file that is neither.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except UnicodeDecodeError:
        raise AdminError(f"{path}: not a profile (it is not text)") from None
    except OSError as error:
        raise AdminError(f"{path}: the profile cannot be read: {error.strerror}") from None
    if text.lstrip().startswith("{"):
        return _from_json(text, path)
    return _from_release_text(text, list(sites), path)


def _from_json(text: str, path: str) -> Profile:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdminError(f"{path}: not a profile, or a damaged one: {error}") from None
    if content.get("format") != FORMAT:
        raise AdminError(f"{path}: not a profile (its format is {content.get('format')!r})")
    if content.get("version") != VERSION:
        raise AdminError(
            f"{path}: format version {content.get('version')}, this program reads {VERSION}"
        )
    try:
        model, measurement, packages = (
            dict(content[key]) for key in ("model", "measurement", "packages")
        )
        entries = [_entry(fields) for fields in content["sublayers"]]
    except KeyError as error:
        raise AdminError(f"{path}: damaged profile: {error} is missing") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise AdminError(f"{path}: damaged profile: {error}") from None
    return Profile(entries, model, measurement, packages)


def _entry(fields: dict[str, Any]) -> Entry:
    if fields["stack"] not in ("encoder", "decoder"):
        raise ValueError(f"{fields['stack']!r} is not a stack")
    return Entry(
        fields["stack"],
        int(fields["layer"]),
        str(fields["sublayer"]),
        fields["input_variance"],
        fields["branch_variance"],
        float(fields["omega"]),
    )


def _from_release_text(text: str, sites: list[Site], path: str) -> Profile:
    """``INDEX RATIO`` lines: the encoder's sub-layers from 1, then the decoder's, again from 1."""
    ratios: dict[str, list[float]] = {"encoder": [], "decoder": []}
    stack = "encoder"
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            first, second = line.split()
            index, ratio = int(first), float(second)
        except ValueError:
            raise AdminError(
                f"{path}: line {number} is neither JSON nor the release's 'INDEX RATIO'"
            ) from None
        if index == 1 and ratios["encoder"]:
            stack = "decoder"
        if index != len(ratios[stack]) + 1:
            raise AdminError(
                f"{path}: line {number} has index {index} where {len(ratios[stack]) + 1} is due"
            )
        ratios[stack].append(ratio)
    if not ratios["encoder"]:
        raise AdminError(f"{path}: not a profile (it is empty)")
    if not text.endswith("\n"):
        raise AdminError(f"{path}: cut off: its last line has no end")
    entries = []
    for stack, values in ratios.items():
        kinds = list(dict.fromkeys(site.sublayer for site in sites if site.stack == stack))
        if values and not kinds:
            raise AdminError(f"{path}: has ω for the {stack}, the model has none there")
        for i, ratio in enumerate(values):
            kind = kinds[i % len(kinds)]
            entries.append(Entry(stack, i // len(kinds), kind, None, None, ratio))
    return Profile(entries)
