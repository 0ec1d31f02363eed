"""Text that fairseq hands to ``eval``, which from a checkpoint or from data must not be code.

A checkpoint of plain types is data for torch, but fairseq builds a model from its options, and
evaluates some that are text: ``adaptive_softmax_cutoff="__import__('os').system(...)"`` would run.
"""

from __future__ import annotations

import argparse
import ast
import operator
import re
from collections.abc import Sequence
from typing import Any, Iterator, Mapping

from fairseq.data import codedataset

from admin_fairseq.errors import AdminError, shortened

EVALUATED = {
    *("adafactor_eps", "adam_betas", "adamax_betas", "lamb_betas", "wer_args"),
    *("adaptive_input_cutoff", "adaptive_softmax_cutoff", "character_filters"),
    *("xformers_att_config", "encoder_xformers_att_config", "decoder_xformers_att_config"),
    *("conv_aggregator_layers", "conv_feature_layers", "feature_encoder_spec"),
    *("conv_dec_config", "conv_enc_config", "vggblock_enc_config"),
    *("transformer_context", "transformer_dec_config", "transformer_enc_config"),
    *("transformer_sampling", "in_channels"),
    *("encoder_attention", "decoder_attention", "encoder_layers", "decoder_layers"),
    *("downsample", "gated_attention", "pretrained", "project_input", "self_attention"),
    *("decoder_zero_init", "left_pad_source", "left_pad_target", "model_overrides"),
    *("pipeline_balance", "pipeline_encoder_balance", "pipeline_decoder_balance"),
    *("pipeline_devices", "pipeline_encoder_devices", "pipeline_decoder_devices"),
}
"""Every option that a model, task, criterion or optimiser of fairseq 0.12 evaluates."""

MOST_NODES, DEEPEST = 2_000_000, 100
"""Bounds on what a checkpoint nests: one of 1,000 layers has some 50,000 values, 6 levels deep."""
LONGEST = 10_000  # characters of an expression
MOST_REPEATED = 100_000  # elements of what "[(512, 3)] * 20" makes
RESOLVER = re.compile(r"\$\{[^}]*(?:\$\{|:)")
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
VALUES = (type(None), bool, int, float, str)


def apply() -> None:
    """Read the lines of speech manifests as the dictionaries that they are; fairseq runs them."""
    codedataset.eval = ast.literal_eval


def check(state: Any) -> None:
    """Raise AdminError where the options in a checkpoint would run or read something.

    Texts that fairseq evaluates may be numbers, lists and the like, and what +, -, * and / make of
    them, as convolutions are written; ``${name}`` may stand for another option, but not
    ``${oc.env:NAME}`` for what a function returns. Bytes, which ``eval`` takes too, are no option
    of fairseq's.
    """
    for _ in _values(state):
        pass  # bounded, whoever goes through it later
    if not isinstance(state, dict):
        return  # for others to refuse
    for name, value in _values([state.get("args"), state.get("cfg")]):
        code = isinstance(value, (bytes, bytearray)) or (
            name in EVALUATED and not _is_harmless(value)
        )
        if code:
            raise AdminError(
                f"refused: its option {name} is {shortened(repr(value), 100)}, which "
                "fairseq would run as code; only numbers, lists and None may stand there"
            )
        if isinstance(value, str) and RESOLVER.search(value):
            raise AdminError(
                f"refused: its option {name} is {shortened(value, 100)!r}, which would be "
                "replaced by what a function returns"
            )


def _values(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every value inside ``value``, with the key it has or that its list has."""
    waiting = [(None, value, 0)]
    seen = 0
    while waiting:
        name, value, depth = waiting.pop()
        yield name, value
        if isinstance(value, argparse.Namespace):
            value = vars(value)
        if isinstance(value, Mapping):
            inside = list(value.items())
        elif isinstance(value, (list, tuple, set, frozenset)):
            inside = [(name, item) for item in value]
        else:
            continue
        seen += len(inside)
        if depth >= DEEPEST or seen > MOST_NODES:
            raise AdminError("refused: its values are nested beyond any checkpoint's")
        waiting += [(key, item, depth + 1) for key, item in inside]


def _is_harmless(value: Any) -> bool:
    """Whether ``value`` may stand where fairseq evaluates; what is inside it is asked by itself."""
    inside = (argparse.Namespace, Mapping, list, tuple, set, frozenset)
    return is_plain(value) if isinstance(value, str) else isinstance(value, (*VALUES, *inside))


def is_plain(text: str) -> bool:
    """Whether evaluating ``text`` makes a value and does nothing else."""
    if len(text) > LONGEST:
        return False
    try:
        _value(ast.parse(text.strip(), mode="eval").body)
    except (ArithmeticError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        return False
    return True


def _value(node: ast.AST) -> Any:
    """What an expression of literals and ``OPERATORS`` is; raises ValueError for any other."""
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = _value(node.left), _value(node.right)
        lengths = [len(side) for side in (left, right) if isinstance(side, Sequence)]
        times = [side for side in (left, right) if isinstance(side, int)]
        if lengths and times and lengths[0] * times[0] > MOST_REPEATED:
            raise ValueError("too long a list")
        return OPERATORS[type(node.op)](left, right)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(item) for item in node.elts]
    return ast.literal_eval(node)
