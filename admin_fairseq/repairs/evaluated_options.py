"""Refuse code in the text of checkpoints and data that fairseq passes to ``eval``.

To torch, a checkpoint of plain types is only data; but fairseq builds a model from the options in
it, and evaluates the text of some: ``adaptive_softmax_cutoff="__import__('os').system(...)"`` would
run a program.
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
"""Names of all options whose text fairseq 0.12 passes to ``eval``."""

MOST_NODES, DEEPEST = 2_000_000, 100
"""The most nested values, and levels: a checkpoint of 1,000 layers has some 50,000 in 6 levels."""
LONGEST = 10_000  # characters of an expression
MOST_REPEATED = 100_000  # elements of a result like that of "[(512, 3)] * 20"
RESOLVER = re.compile(r"\$\{[^}]*(?:\$\{|:)")
OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
VALUES = (type(None), bool, int, float, str)


def apply() -> None:
    """Patch fairseq to read each line of a speech manifest as a literal dictionary.

    fairseq's own ``eval`` would run code in the file.
    """
    codedataset.eval = ast.literal_eval


def check(state: Any) -> None:
    """Raise AdminError if evaluating the options in a checkpoint would run or read something.

    ``state`` is the checkpoint's content. Text that fairseq evaluates may be numbers, lists and
    similar literals, combined with +, -, * and /, as convolutions are specified. ``${name}`` may
    refer to another option, but ``${oc.env:NAME}``, which calls a function, is refused. So are
    bytes, which ``eval`` accepts too and no option of fairseq has.
    """
    for _ in _values(state):
        pass  # checks the limits
    if not isinstance(state, dict):
        return  # refused elsewhere
    for name, value in _values([state.get("args"), state.get("cfg")]):
        code = isinstance(value, (bytes, bytearray)) or (
            name in EVALUATED and not _is_harmless(value)
        )
        if code:
            raise AdminError(
                f"refused: its option {name} is {shortened(repr(value), 100)}, which "
                "fairseq would run as code; only numbers, lists and None are allowed there"
            )
        if isinstance(value, str) and RESOLVER.search(value):
            raise AdminError(
                f"refused: its option {name} is {shortened(value, 100)!r}, which would be "
                "replaced by what a function returns"
            )


def _values(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (key, value) for every value nested in ``value``, to any depth.

    The items of a list get the key of the list. Raises AdminError if there are more than MOST_NODES
    values, or more than DEEPEST levels.
    """
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
            raise AdminError("refused: it has more values, or deeper levels, than any checkpoint")
        waiting += [(key, item, depth + 1) for key, item in inside]


def _is_harmless(value: Any) -> bool:
    """Return whether evaluating ``value`` runs no code; values inside it are checked separately."""
    inside = (argparse.Namespace, Mapping, list, tuple, set, frozenset)
    return is_plain(value) if isinstance(value, str) else isinstance(value, (*VALUES, *inside))


def is_plain(text: str) -> bool:
    """Return whether ``text`` is an expression of literals and + - * /, which runs no code."""
    if len(text) > LONGEST:
        return False
    try:
        _value(ast.parse(text.strip(), mode="eval").body)
    except (ArithmeticError, MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
        return False
    return True


def _value(node: ast.AST) -> Any:
    """Evaluate a syntax tree of literals combined with + - * /, and return the value.

    Raises ValueError for other expressions, and for a list repeated to more than MOST_REPEATED
    items.
    """
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
