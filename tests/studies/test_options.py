"""A study's options: parser, values and command line come from one dataclass."""

from argparse import ArgumentParser, ArgumentTypeError

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from admin_fairseq.analysis.table import TABLE as ANALYSES
from admin_fairseq.benchmarks import training
from admin_fairseq.benchmarks.table import TABLE as BENCHMARKS
from admin_fairseq.errors import AdminError
from admin_fairseq.studies import options
from admin_fairseq.studies.options import Depth, command_line, depth, values

TABLES = (ANALYSES, BENCHMARKS)
EVERY = {
    f"{table.name} {what}": asked.options
    for table in TABLES
    for what, asked in {**table.studies, **table.reports}.items()
}
DEPTHS = st.builds(Depth, st.integers(1, 10_000), st.integers(1, 10_000))


def parsed(kind, words):
    parser = ArgumentParser(allow_abbrev=False)
    options.add_options(parser, kind)
    return values(kind, parser.parse_args(words))


@given(DEPTHS)
def test_a_depth_as_typed(one):
    assert depth(str(one)) == one


@pytest.mark.parametrize("text", ["", "0", "-1", "2-3-4", "6-", "1e9", "10001", "9" * 5000])
def test_what_is_no_depth(text):
    with pytest.raises(ArgumentTypeError, match="is not a depth like 18, or 60-12"):
        depth(text)


@pytest.mark.parametrize("name", EVERY)
def test_defaults_need_no_words(name):
    """But for what must be given."""
    positional = {"analyze profile": ["a"], "analyze training": ["a"]}
    needed = positional.get(name, ["--data", "d"])
    needed = needed if name.startswith("analyze") else []
    made = parsed(EVERY[name], needed)
    assert parsed(EVERY[name], command_line(made)) == made
    assert len(command_line(made)) == len(needed) or "memory" in name  # its width is among them


@pytest.mark.parametrize("name", EVERY)
def test_every_option_says_what_it_is(name):
    for each in options._leaves(EVERY[name]):
        assert each.metadata["help"], each.name


TEXTS = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=9)
WORDS = st.lists(TEXTS.filter(lambda text: text != "--"), max_size=3).map(tuple)


@settings(deadline=None, max_examples=60)
@given(
    depths=st.lists(DEPTHS, min_size=1, max_size=3).map(lambda some: tuple(sorted(set(some)))),
    archs=st.lists(TEXTS, max_size=2).map(tuple),
    words=WORDS,
    seed=st.integers(0, 2**32 - 1),
    cpu=st.booleans(),
    size=st.floats(1e-12, 1e9),
)
def test_a_command_line_gives_the_same_options_again(depths, archs, words, seed, cpu, size):
    kind = EVERY["analyze report"]
    conditions = {"data": "d", "seed": seed, "cpu": cpu, "words": words}
    made = kind(depths=depths, arch=archs, size=size, profiles=("a", "b"))
    for name, value in conditions.items():
        setattr(made.conditions, name, value)
    assert parsed(kind, command_line(made)) == made


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.sampled_from("ab"), WORDS), min_size=1, max_size=2), WORDS)
def test_options_that_hold_options(configurations, ours):
    configurations = tuple(configurations)
    made = training.Options(configurations=configurations, stock_words=ours, loss_of=("a",))
    assert parsed(training.Options, command_line(made)) == made


def test_numbers_have_bounds():
    with pytest.raises(AdminError, match="--seeds takes a whole number from 1 to 1,000, not 0"):
        parsed(EVERY["analyze amplification"], ["--data", "d", "--seeds", "0"])
    with pytest.raises(AdminError, match="--max-tokens takes"):
        parsed(training.Options, ["--max-tokens", "0"])


def test_a_default_is_told_in_the_help():
    parser = ArgumentParser()
    options.add_options(parser, training.Options)
    text = " ".join(parser.format_help().split())
    assert "tokens in a batch (default: 2048)" in text
    assert "random seed (default: 1)" in text
    assert "--config 'NAME: OPTIONS'" in text and "(default: None)" not in text
