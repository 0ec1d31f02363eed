"""The distribution, built and installed from nothing but its files."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .integration.shims import ROOT

LEFT_OUT = shutil.ignore_patterns(".*", "*.egg-info", "build", "dist", "data", "runs", "site")
BIN = Path(sys.executable).parent
IN_ANOTHER_FOLDER = """
import admin_fairseq
from admin_fairseq import cli
print(admin_fairseq.__file__, admin_fairseq.__version__, sep="\\n")
cli.main(["configs"])
"""

pytestmark = pytest.mark.slow


def call(*words, **how):
    words = [str(word) for word in words]
    done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **how)
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT, folder / "tree", ignore=LEFT_OUT)
    call(sys.executable, "-m", "build", "--no-isolation", "-o", folder / "dist", folder / "tree")
    return folder / "dist"


@pytest.fixture(scope="module")
def installed(dist, tmp_path_factory):
    """The environment of a user who has the wheel, and no clone."""
    site = tmp_path_factory.mktemp("site")
    (wheel,) = dist.glob("*.whl")
    how = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--target", site]
    call(sys.executable, "-m", "pip", "install", *how, wheel)
    return {**os.environ, "PYTHONPATH": str(site), "XDG_CACHE_HOME": str(site / "cache")}


def test_the_linters_have_nothing_to_say(dist):
    files = sorted(dist.iterdir())
    assert [path.name.split("-")[0] for path in files] == ["admin_fairseq"] * 2
    assert call(BIN / "twine", "check", "--strict", *files).count("PASSED") == 2
    (wheel,) = dist.glob("*.whl")
    assert "OK" in call(BIN / "check-wheel-contents", "--config", ROOT / "pyproject.toml", wheel)


def test_pyroma_misses_an_address_alone(dist):
    (source,) = dist.glob("*.tar.gz")
    told = subprocess.run([BIN / "pyroma", source], capture_output=True, text=True).stdout
    found = re.findall(r"^Your package .*", told, re.MULTILINE)
    assert found == ["Your package does not have author-email data."], told


def test_the_image_is_made_as_readme_says():
    readme, recipe = ((ROOT / name).read_text() for name in ("README.md", "Dockerfile"))
    (what,) = re.findall(r"^RUN .* pip install --no-cache-dir (\S+)", recipe, re.MULTILINE)
    assert what == "'.[all]'" and f"`{what}` for everything" in " ".join(readme.split())


def test_the_description_has_no_dead_links(dist):
    (source,) = dist.glob("*.tar.gz")
    told = call("tar", "-xOf", source, f"{source.name.removesuffix('.tar.gz')}/PKG-INFO")
    assert "# admin-fairseq" in told and "![" not in told
    targets = re.findall(r"\]\(([^)]+)\)", told)
    assert targets and all(target.startswith("https://") for target in targets)


def test_the_wheel_works_without_a_clone(installed, tmp_path):
    words = [sys.executable, "-W", "ignore", "-c", IN_ANOTHER_FOLDER]
    *_, file, version, configs = call(*words, cwd=tmp_path, env=installed).splitlines()
    assert file.startswith(installed["PYTHONPATH"]) and version == "0.1.0"
    assert (Path(configs) / "wmt14_en_de" / "admin_18l_18l.yaml").is_file()
    assert (Path(configs) / "model" / "admin_transformer.yaml").is_file()
    assert not list(tmp_path.iterdir())
