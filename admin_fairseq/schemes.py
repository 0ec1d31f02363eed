"""The table of schemes (--init-type): layer norm, residual connections, initial weights.

To add a scheme, write its formula (formulas.py), an entry here, and a test of its numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from types import SimpleNamespace
from typing import Any, Callable, Optional

from torch import nn

from admin_fairseq import formulas
from admin_fairseq.bounds import Bounds, counting
from admin_fairseq.errors import AdminError
from admin_fairseq.formulas import in_decoder, in_encoder
from admin_fairseq.initialize import (
    Mirror,
    Normal,
    Rule,
    Scale,
    ScaleByLayer,
    Uniform,
    XavierNormal,
    XavierUniform,
    Zero,
)
from admin_fairseq.modules.connections import Connection, DualStream, LinearCombination
from admin_fairseq.modules.inputs import HeadScale, Shift, input_norm
from admin_fairseq.modules.norms import DynamicErf, DynamicTanh, ScaledLayerNorm
from admin_fairseq.modules.residual import (
    GatedResidual,
    GrowingResidual,
    PlainResidual,
    Residual,
    ScaledResidual,
)

EVERY, ENCODER, DECODER = (rf"{s}coder\.layers\.\d+\." for s in ("(en|de)", "en", "de"))
OMEGA = r"residuals\.\w+\.omega"
ALPHA = r"residuals\.\w+\.alpha"
FFN = EVERY + r"fc[12]\.(weight|bias)"
ATTENTION = r"\w+_attn"
CONSTANTS = ("omega", "alpha", "scale")  # ends of their names
NORMS = r"(self_attn|encoder_attn|final)_layer_norm"  # of a layer
OUTPUT_NORMS = EVERY + r"output_norms\.\w+\.(weight|bias)"
INNER_NORMS = EVERY + r"inner_norms\.\w+\.(weight|bias)"
QUERY_KEY = r"\w+_attn\.[qk]_proj\.weight"
# within a layer: all linear maps, and the last one of each branch
LINEAR = r"(\w+_attn\.\w+_proj|fc[12])"
LAST = r"(\w+_attn\.out_proj|fc2)"
VALUE_PATH = r"(fc[12]|\w+_attn\.(v|out)_proj)\.weight"
# the same without attention to the encoder
OWN_LAST = r"(self_attn\.out_proj|fc2)"
OWN_VALUE_PATH = r"(fc[12]|self_attn\.(v|out)_proj)\.weight"

# Attention and embeddings are as in fairseq: q, k, v Xavier with gain 1/√2, the output projection
# Xavier, embeddings N(0, 1/d). Today's fairseq leaves the FFN at torch's default, whose variance is
# 5/6 (fc1) and 5/24 (fc2) of Xavier's where the FFN is four times as wide as the model, and the
# biases of q, k, v at U(±1/√d). The published runs drew the FFN with Xavier, as fairseq did until
# 0.8, and those of Admin, DLCL, DS-Init and the Lipschitz-constrained initialisation began with all
# biases at zero.
XAVIER_FFN = (
    XavierUniform(EVERY + r"fc[12]\.weight"),
    Zero(EVERY + r"fc[12]\.bias"),
)
BASE_WEIGHTS = (*XAVIER_FFN, Zero(EVERY + r"\w+_attn\.[qkv]_proj\.bias"))

# what no scheme concerns, in a masked language model: the maps between encoder and embeddings
HEAD_WEIGHTS = (XavierUniform(r"lm_head\.dense\.weight"), Zero(r"lm_head\.dense\.bias"))
# Devlin et al. 2019, as in fairseq's init_bert_params: all embeddings and linear maps
BERT_WEIGHTS = (
    Normal(r".*\.(embed_(tokens|positions)|\w+_proj|fc[12]|dense)\.weight", 0.02),
    Zero(r".*\.(\w+_proj|fc[12]|dense)\.bias"),
)

AS_FAIRSEQ = (
    r"(en|de)coder\.embed_(tokens|positions)\.weight",
    r"(en|de)coder\.(layers\.\d+\.(\w+_)?)?(layer_norm|layernorm_embedding)\.(weight|bias)",
    EVERY + r"\w+_attn\.([qkv]|out)_proj\.(weight|bias)",
    r"decoder\.(output_projection|project_(in|out)_dim)\.weight",
    r"decoder\.adaptive_softmax\..*",
    r"lm_head\.(layer_norm\.weight|layer_norm\.bias|bias)",
)
"""Patterns of parameters that may keep fairseq's initialisation; all others need a rule.

The FFN's need one too: see the comment on ``XAVIER_FFN``.
"""


LAYER_NORMS = {
    "self_attn": "self_attn_layer_norm",
    "encoder_attn": "encoder_attn_layer_norm",
    "ffn": "final_layer_norm",
}
"""Name of a sub-layer → name of its layer norm, as in fairseq; in the order of execution."""


class Norm(Enum):
    """The places where a scheme applies layer norm."""

    POST = "Post-LN"  # LN(x + f(x)) (Vaswani et al. 2017)
    PRE = "Pre-LN"  # x + f(LN(x)), one more LN at the end of a stack (Xiong et al. 2020)
    B2T = "B2T"  # Post-LN, the layer's input added again before its last LN (Takase et al. 2022)
    SUB = "Sub-LN"  # Pre-LN, and an LN before a branch's last linear map (Wang et al. 2022)
    PERI = "Peri-LN"  # Pre-LN, and an LN after a branch: x + LN(f(LN(x))) (Kim et al. 2025)
    KEEL = "Pre- and Post-LN"  # LN(x + f(LN(x))) (KEEL 2026)
    NONE = "no layer norm"
    EACH = "as --encoder-normalize-before and --decoder-normalize-before say"

    @property
    def before(self) -> bool:
        """Whether the input of a branch is normalised."""
        return self in (Norm.PRE, Norm.SUB, Norm.PERI, Norm.KEEL)

    @property
    def after(self) -> bool:
        """Whether the sum of input and branch is normalised."""
        return self in (Norm.POST, Norm.B2T, Norm.KEEL)

    @property
    def final(self) -> bool:
        """Whether a stack ends with a layer norm of its own."""
        return self.before and not self.after


AS_USUAL = (Norm.POST, Norm.PRE, Norm.EACH, Norm.B2T)
"""Norm placements with fairseq's own layer norms. (B2T differs in what it adds to the sum.)"""


class Profiling(Enum):
    """What a scheme does about the profile (measured per-layer variances) before training.

    Admin's residual scales ω are computed from the profile.
    """

    NONE = "no profile"
    WRITE = "measure, write the file and stop"
    READ = "read the file"
    MEASURE = "measure, write the file and train"


@dataclass(frozen=True)
class Option:
    """A command-line option, --NAME, that belongs to a single scheme."""

    name: str
    default: Any
    help: str
    choices: tuple[str, ...] = ()
    bounds: Optional[Bounds] = None


Places = tuple[tuple[str, Callable[..., nn.Module]], ...]
"""(pattern of modules' names in a layer or stack, what builds the module to put there)"""


@dataclass(frozen=True)
class Scheme:
    """A scheme: where layers have layer norm, how they join residuals and draw their weights."""

    title: str
    paper: str
    year: int  # of the paper's first public version
    norm: Norm
    residual: Callable[[int], Residual] = PlainResidual  # residual(dim)
    one_residual_per_layer: bool = False  # the sub-layers of a layer share a module
    inputs: Places = ()  # what stands before linear maps: input(dim, heads)
    connections: Optional[Callable[[int, int], Connection]] = None  # connections(layers, dim)
    norms: Places = ()  # what stands in place of layer norms: norm(dim)
    output_norms: str = ""  # pattern of the sub-layers whose branch has a layer norm at its end
    first: Optional[Norm] = None  # in a stack's first sub-layer, where it is not as in the others
    weights: tuple[Rule, ...] = ()  # the scheme's initialisation, applied after starts_from
    starts_from: tuple[Rule, ...] = BASE_WEIGHTS
    as_built: tuple[str, ...] = AS_FAIRSEQ  # names of parameters that no rule needs to match
    profiling: Profiling = Profiling.NONE
    compared_with: str = "the paper alone: no code is public"
    extra: str = ""  # description of the parameters that it adds to a transformer
    no_stock_form: str = ""  # why none of fairseq's transformers computes the same; "": one does
    options: tuple[Option, ...] = ()
    variant: Optional[Callable[[Scheme, Any], Scheme]] = None  # applies those options

    def configured(self, options: Any) -> Scheme:
        """Return this scheme with its own options, if it has any, applied from ``options``."""
        return self.variant(self, options) if self.variant else self

    @property
    def changes(self) -> tuple[str, ...]:
        """Name what it changes of the scheme "default", with its own options at their defaults.

        These are "residual", "norms", "inputs" (of linear maps), "weights" and "connections" (of
        layers). A rule that sets a constant of a residual connection or a norm changes no weights.
        """
        scheme = self.configured(SimpleNamespace(**{o.name: o.default for o in self.options}))
        changed = {
            "residual": scheme.residual is not PlainResidual or scheme.norm is Norm.B2T,
            "norms": scheme.norm not in AS_USUAL or scheme.norms or scheme.output_norms,
            "inputs": scheme.inputs,
            "weights": scheme.starts_from != BASE_WEIGHTS
            or any(not rule.pattern.endswith(CONSTANTS) for rule in scheme.weights),
            "connections": scheme.connections,
        }
        return tuple(part for part, differs in changed.items() if differs)


NO_NORM = "it has no layer norm; a stock transformer has one around every sub-layer"

TFIXUP_WEIGHTS = (
    Scale(ENCODER + r"(fc[12]|self_attn\.out_proj)\.weight", formulas.tfixup_encoder),
    Scale(ENCODER + r"self_attn\.v_proj\.weight", formulas.tfixup_encoder_value),
    Scale(r"encoder\.embed_tokens\.weight", formulas.tfixup_encoder_embedding),
    Scale(DECODER + r"(fc[12]|\w+_attn\.out_proj)\.weight", formulas.tfixup_decoder),
    Scale(DECODER + r"\w+_attn\.v_proj\.weight", formulas.tfixup_decoder_value),
    Scale(r"decoder\.embed_tokens\.weight", formulas.tfixup_decoder),
)
DEEPNORM_WEIGHTS = (
    XavierNormal(EVERY + QUERY_KEY, formulas.one),
    XavierNormal(ENCODER + VALUE_PATH, formulas.deepnorm_encoder_beta),
    XavierNormal(DECODER + VALUE_PATH, formulas.deepnorm_decoder_beta),
    Scale(ENCODER + OMEGA, formulas.deepnorm_encoder_alpha),
    Scale(DECODER + OMEGA, formulas.deepnorm_decoder_alpha),
)
SUBLN_WEIGHTS = (
    XavierNormal(EVERY + r"\w+_attn\.\w+_proj\.weight", formulas.one),
    XavierNormal(ENCODER + VALUE_PATH, formulas.subln_encoder_gain),
    XavierNormal(DECODER + OWN_VALUE_PATH, formulas.subln_decoder_gain),
)
B2T_WEIGHTS = (
    Scale(ENCODER + LINEAR + r"\.weight", formulas.b2t_encoder),
    Scale(DECODER + LINEAR + r"\.weight", formulas.b2t_decoder),
)
# hidden units come in pairs: fc1 has opposite weights for the two, fc2 too
LOOKS_LINEAR_WEIGHTS = (
    Mirror(EVERY + r"fc1\.weight", dim=0),
    Mirror(EVERY + r"fc2\.weight", dim=1),
)
DSINIT_WEIGHTS = (Uniform(EVERY + LINEAR + r"\.weight", formulas.dsinit_bound),)
# an adaptive softmax, which none of these papers considers, keeps fairseq's weights
LIPSCHITZ_WEIGHTS = (
    Uniform(EVERY + LINEAR + r"\.weight", formulas.lipschitz_bound),
    Uniform(r"decoder\.(output_projection|project_(in|out)_dim)\.weight", formulas.lipschitz_bound),
    Uniform(r"(en|de)coder\.embed_tokens\.weight", formulas.lipschitz_embedding_bound),
)
FIXUP_WEIGHTS = (
    Scale(EVERY + r"self_attn\.[qkv]_proj\.weight", formulas.fixup_attention),
    Scale(DECODER + r"encoder_attn\.[qkv]_proj\.weight", formulas.fixup_encoder_attention),
    Scale(EVERY + r"fc1\.weight", formulas.fixup_ffn),
    Zero(EVERY + LAST + r"\.weight"),
    Zero(r"decoder\.output_projection\.weight"),  # if it is not tied to the embeddings
)


KEEL_WEIGHTS = (
    Scale(r"encoder\.layers\.[1-9]\d*\." + OMEGA, formulas.keel_encoder_alpha),
    Scale(r"decoder\.layers\.[1-9]\d*\." + OMEGA, formulas.keel_decoder_alpha),
    Scale(r"decoder\.layers\.0\.residuals\.ffn\.omega", formulas.keel_third_alpha),
)


def _admin(profiling: Profiling) -> Scheme:
    """Make one of Admin's three schemes, which differ in whether they measure or read a profile."""
    return Scheme(
        f"Admin: {profiling.value}",
        formulas.ADMIN_PAPER,
        2020,
        Norm.POST,
        ScaledResidual,
        as_built=(*AS_FAIRSEQ, EVERY + OMEGA),
        profiling=profiling,
        compared_with=formulas.ADMIN_CODE,
        extra="ω: C per sub-layer",
    )


def _admin_torch(scheme: Scheme, options: Any) -> Scheme:
    """Return the scheme admin-torch as the options complete it.

    Its residual scales ω follow from --output-change-scale, and with --omega-trainable are trained.
    """
    omega = formulas.ADMIN_TORCH[options.output_change_scale]
    return replace(
        scheme,
        residual=partial(ScaledResidual, trainable=options.omega_trainable),
        weights=(
            Scale(ENCODER + OMEGA, in_encoder(omega)),
            Scale(DECODER + OMEGA, in_decoder(omega)),
        ),
    )


def _branchnorm(scheme: Scheme, options: Any) -> Scheme:
    """Return BranchNorm with a branch factor α that grows from 0 to 1 in --branchnorm-updates."""
    return replace(scheme, residual=partial(GrowingResidual, updates=options.branchnorm_updates))


def _subln(scheme: Scheme, options: Any) -> Scheme:
    """Return Sub-LN by the paper's text with --subln-in-encoder-attention, else by the code.

    Only the text gives attention to the encoder a second layer norm and a weight gain.
    """
    if not options.subln_in_encoder_attention:
        return scheme
    everywhere = XavierNormal(DECODER + VALUE_PATH, formulas.subln_decoder_gain)
    return replace(scheme, inputs=((LAST, input_norm),), weights=(*scheme.weights, everywhere))


def _residual_of_two(scheme: Scheme, options: Any) -> Scheme:
    """Return ResiDual with the factors of its two streams."""
    alpha, scale = options.resi_dual_alpha, options.resi_dual_scale
    return replace(scheme, connections=partial(DualStream, alpha=alpha, scale=scale))


def _dyt(scheme: Scheme, options: Any) -> Scheme:
    """Return DyT with --dyt-function and the starts of its α in attention and elsewhere."""
    build = {"tanh": DynamicTanh, "erf": DynamicErf}[options.dyt_function]
    places = {
        ATTENTION + "_layer_norm": options.dyt_attention_alpha,
        "(final_)?layer_norm|layernorm_embedding": options.dyt_alpha,
    }
    norms = tuple((pattern, partial(build, alpha=alpha)) for pattern, alpha in places.items())
    return replace(scheme, norms=norms)


def _normformer(scheme: Scheme, options: Any) -> Scheme:
    """Return NormFormer with the parts that --normformer-parts lists."""
    parts = str(options.normformer_parts).split(",")  # a checkpoint may have any value
    if not set(parts) <= {"heads", "attn", "fc"}:
        raise AdminError(
            "--normformer-parts takes heads, attn and fc, with commas and no spaces between them, "
            f"not {options.normformer_parts!r}"
        )
    inputs = {"heads": (ATTENTION + r"\.out_proj", HeadScale), "fc": ("fc2", input_norm)}
    return replace(
        scheme,
        inputs=tuple(place for part, place in inputs.items() if part in parts),
        output_norms=ATTENTION if "attn" in parts else "",
    )


def _completep(scheme: Scheme, options: Any) -> Scheme:
    """Return CompleteP with --completep-base-layers and --completep-exponent."""
    base, exponent = options.completep_base_layers, options.completep_exponent
    return replace(
        scheme,
        weights=(
            Scale(ENCODER + ALPHA, lambda n, m: formulas.depth_multiplier(n, base, exponent)),
            Scale(DECODER + ALPHA, lambda n, m: formulas.depth_multiplier(m, base, exponent)),
        ),
    )


SCHEMES = {
    "default": Scheme(
        "plain residuals",
        formulas.TRANSFORMER_PAPER,
        2017,
        Norm.EACH,
        compared_with=formulas.ADMIN_CODE,
    ),
    "adaptive-profiling": _admin(Profiling.WRITE),
    "adaptive": _admin(Profiling.READ),
    "adaptive-auto": _admin(Profiling.MEASURE),
    "admin-torch": Scheme(
        "Admin without a profile",
        formulas.ADMIN_PAPER,
        2020,
        Norm.POST,
        extra="ω: C per sub-layer, constant unless --omega-trainable",
        options=(
            Option(
                "output_change_scale",
                "O(logn)",
                "how the effect of a small weight change may grow with depth; determines ω",
                choices=tuple(formulas.ADMIN_TORCH),
            ),
            Option("omega_trainable", False, "train ω instead of keeping it constant"),
        ),
        variant=_admin_torch,
        compared_with=formulas.ADMIN_TORCH_CODE,
    ),
    "tfixup": Scheme(
        "T-Fixup",
        formulas.TFIXUP_PAPER,
        2020,
        Norm.NONE,
        weights=TFIXUP_WEIGHTS,
        starts_from=XAVIER_FFN,
        no_stock_form=NO_NORM,
        compared_with=formulas.TFIXUP_CODE,
    ),
    "fixup": Scheme(
        "Fixup",
        formulas.FIXUP_PAPER,
        2019,
        Norm.NONE,
        partial(GatedResidual, start=1.0),
        inputs=((LINEAR, Shift),),
        weights=FIXUP_WEIGHTS,
        as_built=(*AS_FAIRSEQ, EVERY + ALPHA, EVERY + LINEAR + r"\.before\.shift"),
        extra="α: 1 per sub-layer, b: 1 per linear map",
        no_stock_form=NO_NORM,
        compared_with=formulas.FIXUP_CODE,
    ),
    "rezero": Scheme(
        "ReZero",
        formulas.REZERO_PAPER,
        2020,
        Norm.NONE,
        GatedResidual,
        one_residual_per_layer=True,
        as_built=(*AS_FAIRSEQ, EVERY + ALPHA),
        extra="α: 1 per layer",
        no_stock_form=NO_NORM,
        compared_with=formulas.ADMIN_CODE,
    ),
    "rezero_postln": Scheme(
        "ReZero with Post-LN",
        formulas.REZERO_PAPER,
        2020,
        Norm.POST,
        GatedResidual,
        one_residual_per_layer=True,
        as_built=(*AS_FAIRSEQ, EVERY + ALPHA),
        extra="α: 1 per layer",
        compared_with=formulas.ADMIN_CODE,
    ),
    "deepnet": Scheme(
        "DeepNorm",
        formulas.DEEPNORM_PAPER,
        2022,
        Norm.POST,
        partial(ScaledResidual, trainable=False),
        weights=DEEPNORM_WEIGHTS,
        extra="ω: C per sub-layer, constant",
        compared_with=formulas.ADMIN_CODE,
    ),
    "branchnorm": Scheme(
        "BranchNorm",
        formulas.BRANCHNORM_PAPER,
        2023,
        Norm.POST,
        as_built=(*AS_FAIRSEQ, EVERY + ALPHA),
        extra="α: 1 per sub-layer, from 0 to 1 by the number of updates",
        options=(
            Option(
                "branchnorm_updates",
                4000,
                "the branches' factor grows from 0 to 1 over this many updates",
                bounds=counting(1),
            ),
        ),
        variant=_branchnorm,
    ),
    "subln": Scheme(
        "Sub-LN",
        formulas.SUBLN_PAPER,
        2022,
        Norm.SUB,
        inputs=((OWN_LAST, input_norm),),
        weights=SUBLN_WEIGHTS,
        starts_from=XAVIER_FFN,
        as_built=(*AS_FAIRSEQ, EVERY + LAST + r"\.before\.(weight|bias)"),
        extra="one more layer norm per self-attention and FFN",
        no_stock_form="it has layer norms inside its sub-layers; a stock transformer does not",
        options=(
            Option(
                "subln_in_encoder_attention",
                False,
                "give attention to the encoder the second layer norm and the weight gain too, as "
                "in the paper's text; the authors' code, which produced the published numbers, "
                "does not",
            ),
        ),
        variant=_subln,
        compared_with=formulas.TORCHSCALE_CODE,
    ),
    "b2t": Scheme(
        "B2T connection",
        formulas.B2T_PAPER,
        2022,
        Norm.B2T,
        weights=B2T_WEIGHTS,
        starts_from=(),
        as_built=(*AS_FAIRSEQ, EVERY + r"fc[12]\.bias"),
        no_stock_form="it adds a layer's input to the layer's output; a stock transformer does not",
        compared_with=formulas.B2T_CODE,
    ),
    "dlcl": Scheme(
        "dynamic linear combination of layers",
        formulas.DLCL_PAPER,
        2019,
        Norm.PRE,
        connections=LinearCombination,
        as_built=(*AS_FAIRSEQ, r"(en|de)coder\.connections\..*"),
        extra="per stack of L layers: W, (L+1)(L+2)/2, and L+1 layer norms",
        no_stock_form="its layers read all layers before them; stock layers read one",
        compared_with=formulas.DLCL_CODE,
    ),
    "looklinear": Scheme(
        "looks-linear FFN",
        formulas.LOOKS_LINEAR_PAPER,
        2017,
        Norm.POST,
        weights=LOOKS_LINEAR_WEIGHTS,
        compared_with=formulas.ADMIN_CODE,
    ),
    "dsinit": Scheme(
        "depth-scaled initialisation",
        formulas.DSINIT_PAPER,
        2019,
        Norm.EACH,
        weights=DSINIT_WEIGHTS,
        compared_with=formulas.DSINIT_CODE,
    ),
    "lipschitz": Scheme(
        "Lipschitz-constrained initialisation",
        formulas.LIPSCHITZ_PAPER,
        2019,
        Norm.EACH,
        weights=LIPSCHITZ_WEIGHTS,
        compared_with=formulas.LIPSCHITZ_CODE,
    ),
    "lns": Scheme(
        "LayerNorm Scaling",
        formulas.LNS_PAPER,
        2025,
        Norm.PRE,
        norms=((NORMS, ScaledLayerNorm),),
        weights=(ScaleByLayer(EVERY + NORMS + r"\.scale", formulas.lns_factor),),
        extra="a constant factor per layer norm, 1/√l in layer l",
        compared_with=formulas.LNS_CODE,
    ),
    "periln": Scheme(
        "Peri-LN",
        formulas.PERILN_PAPER,
        2025,
        Norm.PERI,
        output_norms=r"\w+",
        as_built=(*AS_FAIRSEQ, OUTPUT_NORMS),
        extra="one more layer norm per sub-layer",
        no_stock_form="it has layer norms at the end of its branches; a stock transformer does not",
    ),
    "resi_dual": Scheme(
        "ResiDual",
        formulas.RESIDUAL_PAPER,
        2023,
        Norm.POST,
        starts_from=(),
        as_built=(*AS_FAIRSEQ, FFN, r"(en|de)coder\.connections\.norm\.(weight|bias)"),
        extra="one layer norm per stack",
        no_stock_form="it has two residual streams; a stock transformer has one",
        options=(
            Option(
                "resi_dual_alpha",
                1.0,
                "factor of the Post-LN stream in a stack's output",
                bounds=Bounds(0, 1000),
            ),
            Option(
                "resi_dual_scale",
                1.0,
                "factor s of the authors' code for the stream without layer norm; that stream is "
                "kept in float32 here, so that s only divides the last norm's epsilon by s²",
                bounds=Bounds(1e-3, 1000),
            ),
        ),
        variant=_residual_of_two,
        compared_with=formulas.RESIDUAL_CODE,
    ),
    "keel": Scheme(
        "KEEL",
        formulas.KEEL_PAPER,
        2026,
        Norm.KEEL,
        partial(ScaledResidual, trainable=False),
        first=Norm.PRE,
        weights=KEEL_WEIGHTS,
        as_built=(*AS_FAIRSEQ, INNER_NORMS, EVERY + OMEGA),
        extra="ω: C per sub-layer, constant; a second layer norm each",
        no_stock_form="it has layer norms before and after its sub-layers; a stock transformer has "
        "one or the other",
    ),
    "dyt": Scheme(
        "DyT (dynamic tanh in place of layer norm)",
        formulas.DYT_PAPER,
        2025,
        Norm.PRE,
        as_built=(*AS_FAIRSEQ, r"(en|de)coder\.(layers\.\d+\.)?\w*norm\w*\.(alpha|shift)"),
        extra="α: 1 in place of each layer norm",
        no_stock_form=NO_NORM,
        options=(
            Option(
                "dyt_function",
                "tanh",
                "the bounded function: tanh, or erf with a trained shift (Derf)",
                choices=("tanh", "erf"),
            ),
            Option(
                "dyt_attention_alpha",
                1.0,
                "where α starts in the norms before attention",
                bounds=Bounds(0, 1000),
            ),
            Option(
                "dyt_alpha",
                1.0,
                "where α starts in the norms of embeddings, of the FFN and at the end of a stack",
                bounds=Bounds(0, 1000),
            ),
        ),
        variant=_dyt,
        compared_with=formulas.DYT_CODE,
    ),
    "normformer": Scheme(
        "NormFormer",
        formulas.NORMFORMER_PAPER,
        2021,
        Norm.PRE,
        as_built=(*AS_FAIRSEQ, OUTPUT_NORMS, EVERY + r"(\w+\.)?(fc2|out_proj)\.before\.\w+"),
        extra="γ: 1 per attention head; one more layer norm per sub-layer",
        no_stock_form="it scales or normalises inside its sub-layers; a stock transformer does not",
        options=(
            Option(
                "normformer_parts",
                "heads,attn,fc",
                "its parts, separated by commas: heads (a factor for each attention head), attn (a "
                "layer norm after attention), fc (one before the FFN's second map)",
            ),
        ),
        variant=_normformer,
        compared_with="fairseq's transformer_lm with --scale-attn and --scale-fc",
    ),
    "completep": Scheme(
        "CompleteP (depth multiplier)",
        formulas.COMPLETEP_PAPER,
        2025,
        Norm.PRE,
        partial(GatedResidual, start=1.0, trainable=False),
        extra="α: 1 per sub-layer, constant",
        options=(
            Option(
                "completep_base_layers",
                6,
                "depth of a stack at which the model is Pre-LN, for which settings were tuned",
                bounds=counting(1, 10_000),
            ),
            Option(
                "completep_exponent",
                1.0,
                "exponent of the depth multiplier: 1 for CompleteP, 0.5 for depth-µP",
                bounds=Bounds(0, 2),
            ),
        ),
        variant=_completep,
        compared_with=formulas.COMPLETEP_CODE,
    ),
}
"""Value of --init-type → its scheme."""


def scheme_of(options: Any) -> Scheme:
    """Return the scheme that a model's ``options`` select, with its own options applied."""
    return SCHEMES[options.init_type].configured(options)
