"""Fake quantization: float tensors rounded to what integer kernels would compute with. Tensors in, tensors out.

Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference".
Values are those of onnxruntime's quantizers, code by code: DynamicQuantizeLinear for activations, ``quantize_dynamic``
for weights, and MatMulNBits' symmetric 4-bit blocks. Gradients pass straight through (Bengio et al. 2013), since scales
follow the largest values and nothing is clipped.
"""

from __future__ import annotations

import torch


def straight_through(x: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """``rounded``, with the gradient of ``x``."""
    return x + (rounded - x).detach()


def rounded_activations(x: torch.Tensor, watched: torch.Tensor | None = None) -> torch.Tensor:
    """``x`` as uint8 codes say, with one scale and zero point; the range is that of ``watched`` (None: ``x``) and 0.

    Values outside the range are clipped. Any shape.
    """
    seen = (x if watched is None else watched).detach()
    low, high = seen.amin().clamp(max=0), seen.amax().clamp(min=0)
    scale = (high - low) / 255
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    zero = torch.round((-low / scale).clamp(0, 255))
    return ((torch.round(x.detach() / scale) + zero).clamp(0, 255) - zero) * scale


def rounded_rows(weight: torch.Tensor, largest: int) -> torch.Tensor:
    """``weight`` [outputs, inputs] as codes of -``largest`` to ``largest`` say, one scale for each output.

    127 is int8; 64 what onnxruntime takes for 7 bits (``reduce_range``).
    """
    scale = weight.detach().abs().amax(dim=1, keepdim=True) / largest
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return torch.round(weight.detach() / scale) * scale


def rounded_blocks(weight: torch.Tensor, block_size: int) -> torch.Tensor:
    """``weight`` [outputs, inputs] as 4-bit codes say, one scale for ``block_size`` inputs of an output.

    Codes are -8 to 7, and the value of largest magnitude in a block is the one that -8 stands for.
    """
    outputs, inputs = weight.shape
    padded = torch.nn.functional.pad(weight.detach(), (0, -inputs % block_size))
    blocks = padded.reshape(outputs, -1, block_size)
    at = blocks.abs().argmax(dim=-1, keepdim=True)
    scale = blocks.gather(-1, at) / -8
    scale = torch.where(scale != 0, scale, torch.ones_like(scale))
    codes = torch.round(blocks / scale).clamp(-8, 7)
    return (codes * scale).reshape(outputs, -1)[:, :inputs]
