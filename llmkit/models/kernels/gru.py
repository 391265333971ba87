"""A GRU layer for CPUs with a handwritten backward pass; the results are those of torch.nn.GRU.

torch's CPU GRU runs some ten small operations per time step and about twice as many in autograd's backward pass (its
LSTM is one fused operation). Here everything that does not depend on the previous step is computed for the whole
sequence at once: the input projections, the local gradients of the gates and the gradients of the weights. A step needs
one product and five elementwise operations forward, one and two backward.

Notation as in torch.nn.GRU; tensors here are (time, batch, width). Under autocast the products over whole sequences are
in bf16, those of single steps in fp32, as they are too small to gain.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def run_gru(layer: nn.GRU, inputs: Tensor, initial: Tensor | None) -> tuple[Tensor, Tensor]:
    """Run one layer over `inputs` (batch, time, width) from the state `initial` (1, batch, hidden), default zeros.

    Returns outputs (batch, time, hidden) and the last state, both in fp32.
    """
    weight_inputs, weight_state, bias_inputs, bias_state = layer.parameters()
    gates = F.linear(inputs.transpose(0, 1), weight_inputs, bias_inputs).to(weight_state.dtype)
    if initial is None:
        initial = gates.new_zeros(1, gates.shape[1], layer.hidden_size)
    with torch.autocast("cpu", enabled=False):
        outputs, final = cast(Any, _GruFunction).apply(gates, initial, weight_state, bias_state)
    return outputs.transpose(0, 1), final


class _GruFunction(torch.autograd.Function):
    """r, z = sigmoid(..), n = tanh(gates_n + r * (W_hn h + b_hn)), h = (1 - z) * n + z * h."""

    @staticmethod
    def forward(ctx: Any, gates: Tensor, initial: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
        n_steps, batch, width = gates.shape[0], gates.shape[1], gates.shape[2] // 3
        states = gates.new_empty(n_steps + 1, batch, width)
        states[0] = initial[0]
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
    def backward(ctx: Any, d_outputs: Tensor, d_final: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        states, rz, n, recurrent, weight = ctx.saved_tensors
        width = n.shape[2]
        r, z, n_h = rz[..., :width], rz[..., width:], recurrent[..., 2 * width :]
        # The gradient of the gates is the state's gradient times these.
        local_grad_n = (1 - z) * (1 - n * n)
        local_grads = torch.stack(
            [local_grad_n * n_h * r * (1 - r), (states[:-1] - n) * z * (1 - z), local_grad_n * r], dim=2
        )
        d_gates, d_states = torch.empty_like(local_grads), torch.empty_like(states)
        torch.add(d_final[0], d_outputs[-1], out=d_states[-1])
        d_previous = torch.cat([torch.zeros_like(d_outputs[:1]), d_outputs[:-1]])
        steps = zip(
            d_states[1:].unsqueeze(2).unbind(), d_states[1:].unbind(), d_states[:-1].unbind(), d_previous.unbind(),
            z.unbind(), local_grads.unbind(), d_gates.unbind(), d_gates.flatten(2).unbind(), strict=True,
        )  # fmt: skip
        for d_h_expanded, d_h, d_h_previous, d_output, z_t, local_grad, d_gate, d_gate_flat in reversed(list(steps)):
            torch.mul(d_h_expanded, local_grad, out=d_gate)
            torch.addcmul(d_output, d_h, z_t, out=d_h_previous).addmm_(d_gate_flat, weight)
        flat = d_gates.flatten(0, 1).flatten(1)
        d_weight, d_bias = flat.t() @ states[:-1].flatten(0, 1), flat.sum(0)
        torch.mul(d_states[1:], local_grad_n, out=d_gates[:, :, 2])  # r does not scale the input part of n
        return d_gates.flatten(2), d_states[:1], d_weight, d_bias
