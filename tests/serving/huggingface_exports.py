"""Models of random weights exported for transformers, for the tests of that."""

import json
import re

import pytest
import torch
from fairseq.models import build_model

from admin_fairseq.config import AdminLanguageModelConfig, AdminTransformerConfig, resolve
from admin_fairseq.errors import AdminError
from admin_fairseq.serving.huggingface import export_huggingface, transformers
from admin_fairseq.serving.huggingface_tokenizers import subwords
from tests.checkpoints.conftest import move

try:
    HF = transformers()
except AdminError as error:
    pytest.skip(f"the extra huggingface is optional: {error}", allow_module_level=True)

SIZES = {"encoder_layers": 2, "decoder_layers": 2, "decoder_attention_heads": 4}
JOINED = {"share_all_embeddings": True}
LEARNED = {"encoder_learned_pos": True, "decoder_learned_pos": True}
EMBEDDING_NORM = {**JOINED, "layernorm_embedding": True}
SHORT = {"max_source_positions": 30, "max_target_positions": 25}
LONG = {"max_source_positions": 40, "max_target_positions": 40}

MODELS = {
    "admin": ("admin_transformer_tiny", {**JOINED, **SHORT}, "MarianMTModel"),
    "tied": ("postln_transformer_tiny", JOINED, "MarianMTModel"),
    "half tied": (
        *("postln_transformer_tiny", {"share_decoder_input_output_embed": True}),
        "MarianMTModel",
    ),
    "untied": ("postln_transformer_tiny", {"activation_fn": "gelu"}, "MarianMTModel"),
    "learned": ("postln_transformer_tiny", {**LEARNED, **SHORT}, "MarianMTModel"),
    "deepnet": ("admin_transformer_tiny", {"init_type": "deepnet"}, "MarianMTModel"),
    "unscaled": ("postln_transformer_tiny", {"no_scale_embedding": True}, "MarianMTModel"),
    "preln": (
        *("preln_transformer_tiny", {**JOINED, **SHORT, "activation_fn": "gelu_accurate"}),
        "M2M100ForConditionalGeneration",
    ),
    "bart": (
        *("admin_transformer_tiny", {**EMBEDDING_NORM, **LEARNED}),
        "BartForConditionalGeneration",
    ),
    "bart with sinusoids": (
        *("postln_transformer_tiny", {**EMBEDDING_NORM, **SHORT}),
        "BartForConditionalGeneration",
    ),
    "mbart": ("preln_transformer_tiny", EMBEDDING_NORM, "MBartForConditionalGeneration"),
    "lm": ("admin_transformer_lm_tiny", {}, "OPTForCausalLM"),
    "tied lm": (
        *("admin_transformer_lm_tiny", {"share_decoder_input_output_embed": True}),
        "OPTForCausalLM",
    ),
    "preln lm": (
        *("preln_transformer_lm_tiny", {"decoder_learned_pos": True, "no_scale_embedding": True}),
        "OPTForCausalLM",
    ),
}
"""Name → architecture, options, and the class of transformers."""


def checkpoint(task, arch, **options):
    torch.manual_seed(2)
    kind = AdminLanguageModelConfig if "_lm" in arch else AdminTransformerConfig
    known = {**SIZES, **LONG, **options}
    if "_lm" in arch:
        of_encoders = re.compile("encoder_|max_source")
        known = {name: value for name, value in known.items() if not of_encoders.match(name)}
    config = kind(_name=arch, **known)
    model = move(build_model(config, task))
    return {
        "args": None,
        "cfg": {"model": vars(resolve(config)), "task": {"_name": "translation"}},
        "model": model.state_dict(),
    }


def export(state, data, folder, asked=None, path="x.pt", **how):
    return export_huggingface(state, path, data, str(folder), asked or subwords(None, None), **how)


def auto_of(name):
    return HF.AutoModelForCausalLM if name.startswith("OPT") else HF.AutoModelForSeq2SeqLM


def loaded(folder, **how):
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    return auto_of(name).from_pretrained(str(folder), **how).eval()
