"""Importing the plugin leaves cuDNN's attention out, and nothing else."""

import pytest
import torch

cuda = torch.backends.cuda


@pytest.mark.skipif(not hasattr(cuda, "cudnn_sdp_enabled"), reason="torch < 2.5 has none")
def test_cudnn_s_attention_is_left_out():
    assert not cuda.cudnn_sdp_enabled()
    assert cuda.flash_sdp_enabled() and cuda.mem_efficient_sdp_enabled()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_no_plan_is_made_on_a_device():
    q, k, v = torch.randn(3, 2, 4, 7, 64, device="cuda", dtype=torch.float16, requires_grad=True)
    with torch.profiler.profile() as seen:
        torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True).sum().backward()
    names = {event.name for event in seen.events()}
    assert any("_scaled_dot_product_flash_attention" in name for name in names)
    assert not any("cudnn_attention" in name for name in names)
