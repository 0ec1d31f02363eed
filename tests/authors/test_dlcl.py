"""What our DLCL does beside the authors' published runs: it norms the embeddings."""

import torch
from torch import nn

from ..conftest import held
from . import subject
from .test_schemes import FILES, build


def test_without_the_first_norm_it_is_what_was_published():
    model = build("dlcl", subject.DEPTHS_COMPUTED, subject.COMPUTED, subject.TYPES_COMPUTED, True)
    model.double().eval()
    for stack in (model.encoder, model.decoder):
        stack.connections.norms[0] = nn.Identity()
    with torch.no_grad():
        for name, parameter in held(model).items():
            parameter.copy_(subject.weights(name, tuple(parameter.shape)))
        found, _ = model(subject.SOURCE, subject.LENGTHS, subject.PREVIOUS)
    published = torch.tensor(FILES["dlcl"]["published_logits"], dtype=torch.float64)
    with_norm = torch.tensor(FILES["dlcl"]["logits"], dtype=torch.float64)
    tokens = subject.PREVIOUS.ne(subject.PAD)
    scale = published[tokens].abs().max()
    assert (found - published)[tokens].abs().max() / scale < 1e-6
    assert (with_norm - published)[tokens].abs().max() / scale > 0.01
