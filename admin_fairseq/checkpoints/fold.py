"""Fold checkpoints: turn a model into an equivalent fairseq transformer without ω and α.

A masked language model becomes fairseq's ``roberta``, an encoder with the same head.

A sub-layer computes x_i = LN(ω_i ⊙ x_{i-1} + α_i f_i(x_{i-1})), with Admin's residual scale ω_i and
the branch scale α_i; a scheme (--init-type) may lack ω or α.

- ω_i is multiplied into the module that outputs x_{i-1}: the layer norm before (γ ← ω_i ⊙ γ, b ←
  ω_i ⊙ b) or, for a stack's first sub-layer, the embeddings. The linear maps that read x_{i-1} are
  divided by ω_i, column by column: q, k, v of self-attention, q of encoder-decoder attention, fc1.
- α_i is multiplied into the branch's last linear map.
- A constant factor of a layer norm's output (LayerNorm Scaling) is multiplied into its γ and b.

No sub-layer of a stack reads the output of the stack's last layer norm, so that the encoder's
output and the logits do not change. The reparameterisation is announced in Liu et al. 2020, section
4.3; the treatment of the first sub-layer is ours.

Shapes: C channels, V types in the vocabulary; ω is C (or 1), linear weights are out x in.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from operator import mul, truediv
from typing import Any, Callable, Iterable, Iterator, Mapping, Optional, Sequence, cast

import torch
from fairseq.data import Dictionary
from fairseq.models import ARCH_MODEL_NAME_REGISTRY
from fairseq.modules import SinusoidalPositionalEmbedding
from torch import Tensor

from admin_fairseq.architectures import KINDS
from admin_fairseq.checkpoints import building, compare
from admin_fairseq.checkpoints.storage import (
    Weights,
    check_weights,
    model_options,
    read_checkpoint,
    run_options,
    without_training_state,
    write_checkpoint,
)
from admin_fairseq.config import CONFIGS, PLUGIN_OPTIONS
from admin_fairseq.errors import AdminError, blaming
from admin_fairseq.files import refuse_to_overwrite
from admin_fairseq.schemes import LAYER_NORMS

ModelOptions = dict[str, Any]
"""A model's options in a flat dictionary: name, as on the command line → value."""


SUBLAYERS = {"encoder": ("self_attn", "ffn"), "decoder": ("self_attn", "encoder_attn", "ffn")}
READERS = {
    "self_attn": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "encoder_attn": ("encoder_attn.q_proj",),
    "ffn": ("fc1",),
}
"""Kind of sub-layer → the linear maps that read its input."""

SCALES = {"omega": "residuals.{}.omega", "alpha": "residuals.{}.alpha", "scale": "{}.scale"}
"""Kind of scale → its name in a layer, with a place for the name of the sub-layer or its norm."""

OUTPUTS = {"self_attn": "self_attn.out_proj", "encoder_attn": "encoder_attn.out_proj", "ffn": "fc2"}
"""Kind of sub-layer → the last linear map of its residual branch."""

MORE_THAN_ROUNDING = 1e-3
"""A difference in log-probabilities that is larger than any from float32 rounding, at any depth."""

POSITIONS = {"encoder": "max_source_positions", "decoder": "max_target_positions"}
"""Stack → the option that sets its number of positions."""


@dataclass(frozen=True)
class Folded:
    """A folded model: its state dict, its options, and descriptions of what folding changed."""

    weights: Weights
    options: ModelOptions
    changes: list[str]


def fold(weights: Weights, options: ModelOptions, scales: Iterable[str] = ()) -> Folded:
    """Multiply all residual scales ω and branch scales α into other weights of a model.

    ``weights`` is its state dict, ``options`` its options; neither is modified. ``scales``
    (keys of ``SCALES``) names those that every sub-layer must have. A model without scales is
    returned as it is. Raises AdminError if the model has no exact equivalent among fairseq's own
    transformers.
    """
    check_weights(weights)
    building.check_sizes(options, weights)
    folding = _Folding(dict(weights), dict(options))
    for kind in SCALES:
        folding.check_all_or_none(kind, required=kind in scales)
    folding.run()
    return Folded(folding.weights, folding.options, folding.changes)


def fold_checkpoint(state: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Return the equivalent checkpoint of fairseq's own ``transformer``, and what folding changed.

    ``state`` is the checkpoint to fold. The result has no optimiser state, which belonged to the
    old weights. Raises AdminError if there is no exact equivalent, or fairseq could not load the
    result.
    """
    options, scales = _stock_options(state)
    names = KINDS[options["_name"]].stock_names
    ours = _renamed(state["model"], [(there, here) for here, there in names])
    folded = fold(ours, options, scales)
    weights = _renamed(folded.weights, names)
    building.check_fit(folded.options, weights)  # raises if fairseq could not load it
    cfg = run_options(state)
    cfg["model"] = folded.options
    if isinstance(cfg.get("common"), dict):
        cfg["common"]["user_dir"] = None  # the plugin is no longer needed
    stock = {**without_training_state(state), "args": None, "cfg": cfg, "model": weights}
    return stock, folded.changes


def fold_file(source: str, target: str, check: bool = False, force: bool = False) -> list[str]:
    """Fold the checkpoint in the file ``source`` and write the result to ``target``.

    With ``check``, random sentences run through both models, and the result is written only if they
    agree; ``force`` replaces a file. Returns lines that describe what folding changed. Raises
    AdminError if a file cannot be read or written, or if the model has no exact equivalent.
    """
    refuse_to_overwrite(target, force)
    state = read_checkpoint(source)
    with blaming(source):
        stock, lines = fold_checkpoint(state)
        lines = lines or ["nothing to fold: this is a stock transformer already"]
        if check:
            difference = f"{difference_made(state, stock):.2g}"
            lines.append(
                f"largest difference in log-probabilities on random sentences: {difference}"
            )
    write_checkpoint(stock, target, force)
    return lines


def _stock_options(state: Mapping[str, Any]) -> tuple[ModelOptions, list[str]]:
    """Return the options for fairseq's own model, and which scales every sub-layer must have.

    The scales are keys of ``SCALES``, as the scheme (--init-type) defines. Raises AdminError for
    an architecture or scheme that cannot be folded.
    """
    # files of pretrained embeddings are not needed: their weights are in the checkpoint
    options = {**model_options(state), "encoder_embed_path": None, "decoder_embed_path": None}
    scales: list[str] = []
    name = options["_name"]
    model = ARCH_MODEL_NAME_REGISTRY.get(name, name)
    if model not in KINDS:
        raise AdminError(f"cannot fold a model of architecture {name}")
    if model in CONFIGS:
        config = building.resolved(options)
        if config.scheme.no_stock_form:
            raise AdminError(
                f"{config.scheme.title} (--init-type {config.init_type}) has no stock "
                f"form: {config.scheme.no_stock_form}"
            )
        options = {key: value for key, value in vars(config).items() if key not in PLUGIN_OPTIONS}
        scheme = config.scheme
        modules = [scheme.residual(1), *(build(1) for _, build in scheme.norms)]
        scales = [kind for kind in SCALES if any(kind in module.state_dict() for module in modules)]
    return {**options, "_name": KINDS[model].stock}, scales


def _renamed(weights: Weights, starts: Sequence[tuple[str, str]]) -> Weights:
    """Return ``weights`` with the start of each name replaced by the first of (old, new) to fit."""

    def new_name(name: str) -> str:
        return next((new + name[len(old) :] for old, new in starts if name.startswith(old)), name)

    return {new_name(name): weight for name, weight in weights.items()}


@dataclass
class _Folding:
    """A state dict and a model's options while they are being folded, and the changes made."""

    weights: Weights
    options: ModelOptions
    changes: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Fold the scales of all sub-layers; raise AdminError if a parameter has no equivalent.

        A residual parameter that is left over is one that fairseq's own transformer cannot express.
        """
        folded = {
            stack: sum(self._sublayer(*place) for place in self._places(stack))
            for stack in SUBLAYERS
        }
        factors = [name for name in self.weights if name.endswith("_layer_norm.scale")]
        for name in factors:
            self._fold_norm(name)
        if factors:
            self.changes.append(f"folded the factors of {len(factors)} layer norms")
        if any(folded.values()):
            counts = " and ".join(f"{n} {stack}" for stack, n in folded.items() if n)
            self.changes.insert(0, f"folded the scales of {counts} sub-layers")
        left = next((name for name in self.weights if ".residuals." in name), None)
        if left is not None:
            raise AdminError(f"{left} has no equivalent in a stock transformer")

    def _fold_norm(self, name: str) -> None:
        """Multiply the constant factor ``name`` of a layer norm's output into γ and b."""
        scale, norm = self._take(name, 1), name[: -len(".scale")]
        for part in ("weight", "bias"):
            self._scale(f"{norm}.{part}", mul, cast(Tensor, scale))

    def check_all_or_none(self, kind: str, required: bool) -> None:
        """Raise AdminError if some sub-layers have the scale ``kind`` and others lack it.

        ``kind`` is a key of ``SCALES``. If it is ``required``, every sub-layer must have one.
        """
        names = [
            prefix + SCALES[kind].format(LAYER_NORMS[sublayer] if kind == "scale" else sublayer)
            for stack in SUBLAYERS
            for prefix, sublayer, _ in self._places(stack)
        ]
        missing = [name for name in names if name not in self.weights]
        if missing and (required or len(missing) < len(names)):
            raise AdminError(f"damaged checkpoint: {missing[0]} is missing")

    def _places(self, stack: str) -> Iterator[tuple[str, str, Optional[str]]]:
        """Yield a layer's name prefix, the kind, and the norm before, for each sub-layer.

        The prefix is the layer's in the state dict of ``stack``. The norm before is the name of the
        layer norm that outputs the sub-layer's input (None for the stack's first sub-layer).
        """
        encoder_attention = any(".encoder_attn." in name for name in self.weights)
        norm_before = None
        for layer in range(self.options.get(f"{stack}_layers") or 0):
            prefix = f"{stack}.layers.{layer}."
            for sublayer in SUBLAYERS[stack]:
                if sublayer != "encoder_attn" or encoder_attention:
                    yield prefix, sublayer, norm_before
                    norm_before = prefix + LAYER_NORMS[sublayer]

    def _sublayer(self, prefix: str, sublayer: str, norm_before: Optional[str]) -> bool:
        """Fold the residual scales of one sub-layer; return whether it has any."""
        output = prefix + OUTPUTS[sublayer]
        dim = len(self._weight(f"{output}.weight"))
        alpha = self._take(f"{prefix}residuals.{sublayer}.alpha", 1)
        omega = self._take(f"{prefix}residuals.{sublayer}.omega", dim)
        if alpha is not None:
            self._scale(f"{output}.weight", mul, alpha)
            self._scale(f"{output}.bias", mul, alpha)
        if omega is not None and not omega.eq(1).all():
            self._fold_omega(prefix, sublayer, norm_before, omega)
        return alpha is not None or omega is not None

    def _take(self, name: str, size: int) -> Optional[Tensor]:
        """Remove the scale ``name`` of ``size`` elements from the state dict; return it or None.

        Raises AdminError if it has another shape.
        """
        scale = self.weights.pop(name, None)
        if scale is not None and scale.shape != (size,):
            shape = tuple(scale.shape)
            raise AdminError(f"damaged checkpoint: {name} is {shape}, not ({size},)")
        return scale

    def _fold_omega(
        self, prefix: str, sublayer: str, norm_before: Optional[str], omega: Tensor
    ) -> None:
        """Divide the maps that read a sub-layer's input by Admin's ω, and scale the input by ω.

        The input is scaled in the layer norm, or the embeddings, that computes it. Raises
        AdminError for a Pre-LN stack, where the input is not the output of a layer norm.
        """
        stack = prefix.split(".")[0]
        if self.options.get(f"{stack}_normalize_before"):
            raise AdminError(f"ω in a Pre-LN {stack} has no stock form")
        for reader in READERS[sublayer]:
            self._scale(f"{prefix}{reader}.weight", truediv, omega)
        if norm_before is None:
            self._scale_embeddings(stack, omega)
        else:
            self._scale(f"{norm_before}.weight", mul, omega)
            self._scale(f"{norm_before}.bias", mul, omega)

    def _scale_embeddings(self, stack: str, omega: Tensor) -> None:
        """Multiply the sum of a stack's token and position embeddings by Admin's ω.

        Whatever computes the sum is scaled: layer norm, a projection, or the embedding tables.
        """
        if self.options.get("quant_noise_pq"):
            raise AdminError(
                f"the first ω of the {stack} cannot be moved past the linear map that "
                "--quant-noise-pq puts after the embeddings"
            )
        if f"{stack}.layernorm_embedding.weight" in self.weights:
            self._scale(f"{stack}.layernorm_embedding.weight", mul, omega)
            self._scale(f"{stack}.layernorm_embedding.bias", mul, omega)
            self.changes.append(f"{stack}: scaled layernorm_embedding")
            return
        if f"{stack}.project_in_dim.weight" in self.weights:
            self._scale(f"{stack}.project_in_dim.weight", mul, omega.unsqueeze(-1))
            self.changes.append(f"{stack}: scaled project_in_dim")
        else:
            self._untie(stack)
            self._scale(f"{stack}.embed_tokens.weight", mul, omega)
            self.changes.append(f"{stack}: scaled the token embeddings")
        if not self.options.get("no_token_positional_embeddings"):
            self._scale_positions(stack, omega)

    def _untie(self, stack: str) -> None:
        """Give ``stack`` token embeddings of its own, where encoder, decoder or output share them.

        Otherwise scaling them would change the other uses too. Raises AdminError with
        --merge-src-tgt-embed, whose embeddings cannot be untied.
        """
        options = self.options
        if options.get("merge_src_tgt_embed"):
            raise AdminError("--merge-src-tgt-embed ties embeddings that folding must untie")
        if options.get("share_all_embeddings"):
            options["share_all_embeddings"] = False
            options["share_decoder_input_output_embed"] = True  # which it implied
            self.changes.append("untied the encoder's embeddings from the decoder's")
        if options["_name"] == "roberta":
            options["untie_weights_roberta"] = True  # the head keeps lm_head.weight
            self.changes.append("untied the encoder's embeddings from the head")
        if stack == "decoder" and options.get("share_decoder_input_output_embed"):
            options["share_decoder_input_output_embed"] = False
            if not options.get("adaptive_softmax_cutoff"):
                embeddings = self._weight("decoder.embed_tokens.weight")
                self.weights.setdefault("decoder.output_projection.weight", embeddings)
            self.changes.append("untied the decoder's embeddings from the output projection")

    def _scale_positions(self, stack: str, omega: Tensor) -> None:
        """Multiply a stack's position embeddings by Admin's ω.

        Sinusoids, which have no weights, become learned position embeddings for this.
        """
        table = f"{stack}.embed_positions.weight"
        if self.options.get(f"{stack}_learned_pos"):
            self.changes.append(f"{stack}: scaled the learned positions")
        else:
            self.weights.pop(f"{stack}.embed_positions._float_tensor", None)
            self.weights[table] = self._sinusoids(stack)
            self.options[f"{stack}_learned_pos"] = True
            rows = len(self.weights[table])
            self.changes.append(
                f"{stack}: learned positions ({rows} rows) now hold the scaled sinusoids"
            )
        self._scale(table, mul, omega)

    def _sinusoids(self, stack: str) -> Tensor:
        """Return sinusoids of all positions that the model can use, float32.

        Shape: (longest + padding + 1) x C, where padding is the index of the padding symbol.
        """
        longest = self.options[POSITIONS[stack]]
        padding = Dictionary().pad()
        dim = self.options[f"{stack}_embed_dim"]
        return SinusoidalPositionalEmbedding.get_embedding(longest + padding + 1, dim, padding)

    def _weight(self, name: str) -> Tensor:
        """Return the weight ``name``; raise AdminError if it is missing."""
        if name not in self.weights:
            raise AdminError(f"damaged checkpoint: {name} is missing")
        return self.weights[name]

    def _scale(self, name: str, operation: Callable, scale: Tensor) -> None:
        """Multiply or divide the weight ``name`` by ``scale`` in float64, and store the result.

        The result has the dtype of weight and scale, but at least float32. Raises AdminError if
        their shapes do not fit, or the result is not finite.
        """
        weight = self._weight(name)
        dtype = torch.promote_types(torch.promote_types(weight.dtype, scale.dtype), torch.float32)
        try:
            scaled = operation(weight.double(), scale.double()).to(dtype)
        except RuntimeError:
            shape = tuple(weight.shape)
            raise AdminError(f"damaged checkpoint: {name} is {shape}") from None
        if not scaled.isfinite().all():
            raise AdminError(f"{name} would become too large; it cannot be folded")
        self.weights[name] = scaled


def difference_made(state: Mapping[str, Any], stock: Mapping[str, Any]) -> float:
    """Return the largest difference that folding made in log-probabilities of random sentences.

    ``state`` is the checkpoint before folding, ``stock`` the folded one. Raises AdminError if the
    difference is larger than rounding errors (``MORE_THAN_ROUNDING``).
    """
    before = building.build(model_options(state), state["model"])
    after = building.build(model_options(stock), stock["model"])
    difference = compare.largest_difference(before, after)
    if not difference <= MORE_THAN_ROUNDING:
        raise AdminError(f"the folded model differs by {difference:.2g} in log-probabilities")
    return difference
