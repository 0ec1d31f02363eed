"""The measurement that CONTRIBUTING spells out, made a command as it says."""

import json
import re
from argparse import ArgumentParser
from dataclasses import dataclass

from admin_fairseq.analysis.options import Models
from admin_fairseq.analysis.studies.models import MeasuredModel, specimens
from admin_fairseq.commands.studies import command
from admin_fairseq.studies.study import Study, Table

from ..analysis.conftest import corpus, data  # noqa: F401
from ..integration.shims import ROOT


def test_a_measurement_is_one_study_and_one_row(data, tmp_path):  # noqa: F811
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    section = text.split("## Adding a measurement")[1]
    names = {"MeasuredModel": MeasuredModel, "Models": Models, "specimens": specimens}
    names.update(Study=Study, dataclass=dataclass, __name__=__name__)
    exec(re.search(r"```python\n(.*?)```", section, re.DOTALL)[1], names)
    table = Table("analyze", "study", {"size": names["STUDY"]}, folder=str(tmp_path))
    made, parser = command(table), ArgumentParser()
    made.add_options(parser)
    words = ["size", "--data", data, "--depths", "2", "--cpu", "--arch", "postln_transformer_tiny"]
    printed = list(made.run(parser.parse_args(words)))
    (model,) = json.loads((tmp_path / "size.json").read_text())["models"]
    assert printed[0] == f"Post-LN: {model['parameters']:,} parameters"
    head, row = (tmp_path / "size.csv").read_text().splitlines()
    assert head == "label,model,layers,seed,parameters" and row.endswith(f",{model['parameters']}")
