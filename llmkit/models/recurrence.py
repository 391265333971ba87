"""A GRU layer for CPUs: the same numbers as torch's, with a backward pass written out.

torch runs it on a CPU as some ten small operations a time step, and autograd twice as many backwards (its LSTM is one
fused operation). Here all that does not depend on the order of time is done for the whole sequence at once: the inputs'
share of the gates before, the slopes of the gates and the gradient of the weights after. What is left in a step is one
product and five small operations forwards, one and two backwards.

Notation as in torch.nn.GRU. Sequences are (time, batch, width) in here. Under autocast the large products are in bf16,
those of a single step in fp32: they are too small to gain.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def run_gru(layer: nn.GRU, inputs: Tensor, before: Tensor | None) -> tuple[Tensor, Tensor]:
    """One layer over (batch, time, width) from a state (1, batch, hidden), or from zeros: outputs (batch, time, hidden)
    and the last state, both in fp32."""
    weight_inputs, weight_state, bias_inputs, bias_state = layer.parameters()
    gates = F.linear(inputs.transpose(0, 1), weight_inputs, bias_inputs).to(weight_state.dtype)
    if before is None:
        before = gates.new_zeros(1, gates.shape[1], layer.hidden_size)
    with torch.autocast("cpu", enabled=False):
        outputs, after = cast(Any, _Scan).apply(gates, before, weight_state, bias_state)
    return outputs.transpose(0, 1), after


class _Scan(torch.autograd.Function):
    """r, z = sigmoid(..), n = tanh(gates_n + r * (W_hn h + b_hn)), h = (1 - z) * n + z * h."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, before: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        n_steps, batch, width = gates.shape[0], gates.shape[1], gates.shape[2] // 3
        states = gates.new_empty(n_steps + 1, batch, width)
        states[0] = before[0]
        rz, n = gates.new_empty(n_steps, batch, 2 * width), gates.new_empty(n_steps, batch, width)
        recurrent = gates.new_empty(n_steps, batch, 3 * width)
        weight_t = weight.t()
        steps = zip(
            gates[..., : 2 * width].unbind(), gates[..., 2 * width :].unbind(), recurrent.unbind(),
            recurrent[..., : 2 * width].unbind(), recurrent[..., 2 * width :].unbind(),
            rz.unbind(), rz[..., :width].unbind(), rz[..., width:].unbind(), n.unbind(),
            states[:-1].unbind(), states[1:].unbind(), strict=True,
        )  # fmt: skip
        for gates_rz, gates_n, all_h, rz_h, n_h, rz_t, r_t, z_t, n_t, h, h_next in steps:
            torch.addmm(bias, h, weight_t, out=all_h)
            torch.add(gates_rz, rz_h, out=rz_t).sigmoid_()
            torch.addcmul(gates_n, r_t, n_h, out=n_t).tanh_()
            torch.lerp(n_t, h, z_t, out=h_next)
        ctx.save_for_backward(states, rz, n, recurrent, weight)
        return states[1:], states[-1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_outputs: Tensor, d_after: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        states, rz, n, recurrent, weight = ctx.saved_tensors
        width = n.shape[2]
        r, z, n_h = rz[..., :width], rz[..., width:], recurrent[..., 2 * width :]
        # A step's gradient is that of the state times these slopes.
        slope_n = (1 - z) * (1 - n * n)
        slopes = torch.stack([slope_n * n_h * r * (1 - r), (states[:-1] - n) * z * (1 - z), slope_n * r], dim=2)
        d_gates, d_states = torch.empty_like(slopes), torch.empty_like(states)
        torch.add(d_after[0], d_outputs[-1], out=d_states[-1])
        below = torch.cat([torch.zeros_like(d_outputs[:1]), d_outputs[:-1]])
        steps = zip(
            d_states[1:].unsqueeze(2).unbind(), d_states[1:].unbind(), d_states[:-1].unbind(), below.unbind(),
            z.unbind(), slopes.unbind(), d_gates.unbind(), d_gates.flatten(2).unbind(), strict=True,
        )  # fmt: skip
        for d_h_wide, d_h, d_h_before, d_output, z_t, slope, d_gate, d_gate_flat in reversed(list(steps)):
            torch.mul(d_h_wide, slope, out=d_gate)
            torch.addcmul(d_output, d_h, z_t, out=d_h_before).addmm_(d_gate_flat, weight)
        flat = d_gates.flatten(0, 1).flatten(1)
        d_weight, d_bias = flat.t() @ states[:-1].flatten(0, 1), flat.sum(0)
        torch.mul(d_states[1:], slope_n, out=d_gates[:, :, 2])  # the inputs' share of n is not behind r
        return d_gates.flatten(2), d_states[:1], d_weight, d_bias
