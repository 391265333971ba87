"""The chunked loss equals that of all logits at once, in value and gradients."""

import pytest
import torch
import torch.nn.functional as F
from tiny import make_gpt2
from torch import Tensor, nn

from llmkit.models.kernels import output_layer
from llmkit.models.kernels.output_layer import CACHE, AdaptiveSoftmax, read_cache, read_logits, sum_cross_entropy

N_TOKENS, WIDTH, VOCAB = 37, 12, 29


def make_case(n_ignored: int, seed: int = 0) -> tuple[nn.Linear, Tensor, Tensor]:
    torch.manual_seed(seed)
    layer = nn.Linear(WIDTH, VOCAB)
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    labels = torch.randint(0, VOCAB, (N_TOKENS,))
    labels[torch.randperm(N_TOKENS)[:n_ignored]] = -100
    return layer, torch.randn(N_TOKENS, WIDTH, requires_grad=True), labels


def compute_in_fp64(layer: nn.Linear, hidden: Tensor, labels: Tensor, factor: float = 1.0) -> list[Tensor]:
    """The loss, and its gradients by hidden states, weight and bias."""
    leaves = [each.detach().double().requires_grad_() for each in (hidden, layer.weight, layer.bias)]
    loss = F.cross_entropy(F.linear(*leaves), labels, reduction="sum", ignore_index=-100)
    return [loss.detach(), *torch.autograd.grad(loss * factor, leaves)]


def compute(layer: nn.Linear, hidden: Tensor, labels: Tensor, factor: float = 1.0) -> list[Tensor]:
    loss = sum_cross_entropy(layer, hidden, labels)
    return [loss.detach(), *torch.autograd.grad(loss * factor, [hidden, layer.weight, layer.bias])]


@pytest.mark.parametrize("n_ignored", [0, 9, N_TOKENS - 1])
@pytest.mark.parametrize("tokens_at_once", [1, 5, 36, 37, 1000])
def test_loss_and_gradients_are_those_of_all_logits_at_once(
    monkeypatch: pytest.MonkeyPatch, n_ignored: int, tokens_at_once: int
) -> None:
    monkeypatch.setattr(output_layer, "LOGITS_PER_CHUNK", tokens_at_once * VOCAB)
    case = make_case(n_ignored)
    for found, expected in zip(compute(*case), compute_in_fp64(*case), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


def test_chunk_has_at_least_one_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_layer, "LOGITS_PER_CHUNK", 3)
    case = make_case(4)
    assert compute(*case)[0].item() == pytest.approx(compute_in_fp64(*case)[0].item(), rel=1e-6)


def test_gradient_is_scaled_by_the_upstream_gradient() -> None:
    case = make_case(3)
    for found, expected in zip(compute(*case, 1 / 34), compute_in_fp64(*case, 1 / 34), strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-6)


def test_without_any_label_there_is_neither_loss_nor_gradient() -> None:
    layer, hidden, labels = make_case(N_TOKENS)
    assert all((each == 0).all() for each in compute(layer, hidden, labels))


def test_ignored_tokens_add_nothing() -> None:
    layer, hidden, labels = make_case(0)
    labels[5:] = -100
    found, expected = compute(layer, hidden, labels), compute(layer, hidden[:5], labels[:5])
    assert (found[1][5:] == 0).all()
    found[1] = found[1][:5]
    for whole, part in zip(found, expected, strict=True):
        torch.testing.assert_close(whole, part)


def test_tied_weight_gets_both_gradients() -> None:
    torch.manual_seed(0)
    table = nn.Parameter(torch.randn(VOCAB, WIDTH))
    layer = nn.Linear(WIDTH, VOCAB)
    layer.weight = table
    ids, labels = torch.randint(0, VOCAB, (2, N_TOKENS))
    [found] = torch.autograd.grad(sum_cross_entropy(layer, table[ids].tanh(), labels), [table])
    whole = F.cross_entropy(table[ids].tanh() @ table.T + layer.bias, labels, reduction="sum")
    [expected] = torch.autograd.grad(whole, [table])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_frozen_layer_gets_no_gradient_but_passes_one_on() -> None:
    layer, hidden, labels = make_case(2)
    expected = compute(layer, hidden, labels)[1]
    layer.requires_grad_(False)
    sum_cross_entropy(layer, hidden, labels).backward()
    assert layer.weight.grad is None
    torch.testing.assert_close(hidden.grad, expected)


def test_layer_without_a_bias_works() -> None:
    layer, hidden, labels = make_case(2)
    layer.bias = None
    loss = sum_cross_entropy(layer, hidden, labels)
    loss.backward()
    whole = F.cross_entropy(hidden.detach() @ layer.weight.detach().T, labels, reduction="sum")
    assert loss.item() == pytest.approx(whole.item(), rel=1e-6)


def test_bf16_loss_is_close_to_fp32() -> None:
    case = make_case(5)
    with torch.autocast("cpu", torch.bfloat16):
        found = compute(*case)
    for near, exact in zip(found, compute_in_fp64(*case), strict=True):
        assert near.dtype in (torch.float32, torch.float64)
        assert ((near.double() - exact).norm() / exact.norm()).item() < 1e-2


def make_adaptive(*cutoffs: int) -> AdaptiveSoftmax:
    torch.manual_seed(1)
    layer = AdaptiveSoftmax(WIDTH, VOCAB, cutoffs)
    for weight in layer.parameters():
        torch.nn.init.normal_(weight)
    return layer


def test_adaptive_softmax_is_torchs_with_full_width_and_no_projection() -> None:
    ours, cutoffs = make_adaptive(5, 15), [5, 15]
    ours.bias.data[5:] = 0  # torch's classes of rare words have none
    torchs = nn.AdaptiveLogSoftmaxWithLoss(WIDTH, VOCAB, cutoffs, div_value=1.0, head_bias=True)
    torchs.head.weight.data = torch.cat([ours.weight[:5], ours.classes.weight]).detach()
    torchs.head.bias.data = torch.cat([ours.bias[:5], ours.classes.bias]).detach()
    for tail, (begin, end) in zip(torchs.tail, [(5, 15), (15, VOCAB)], strict=True):
        tail[0].weight.data, tail[1].weight.data = torch.eye(WIDTH), ours.weight[begin:end].detach()
    _, hidden, labels = make_case(9)
    hidden, labels = hidden.detach()[labels >= 0], labels[labels >= 0]
    torch.testing.assert_close(read_logits(ours, hidden), torchs.log_prob(hidden))
    expected = -torchs(hidden, labels).output.sum().item()
    assert sum_cross_entropy(ours, hidden, labels).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("cutoffs", [(5, 15), (1,), (VOCAB - 1,)])
def test_adaptive_softmax_has_the_gradients_of_its_log_probabilities(cutoffs: tuple[int, ...]) -> None:
    layer, (_, hidden, labels) = make_adaptive(*cutoffs), make_case(9)
    hidden = hidden.detach().requires_grad_()
    inputs = [hidden, *layer.parameters()]
    expected = F.nll_loss(read_logits(layer, hidden), labels, reduction="sum")
    found = sum_cross_entropy(layer, hidden, labels)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    for near, exact in zip(torch.autograd.grad(found, inputs), torch.autograd.grad(expected, inputs), strict=True):
        torch.testing.assert_close(near, exact, rtol=1e-4, atol=1e-5)


def test_loss_of_an_underflowed_probability_is_exact() -> None:
    layer = nn.Linear(1, 3, bias=False)
    layer.weight.data = torch.tensor([[0.0], [100.0], [500.0]])
    hidden, labels = torch.ones(3, 1), torch.tensor([0, 1, 2])
    assert sum_cross_entropy(layer, hidden, labels).item() == pytest.approx(900.0)


def test_backward_can_run_twice() -> None:
    layer, hidden, labels = make_case(3)
    loss = sum_cross_entropy(layer, hidden, labels) * 0.5
    one, other = (torch.autograd.grad(loss, layer.weight, retain_graph=True)[0] for _ in range(2))
    assert torch.equal(one, other)


def test_cache_of_a_model_of_transformers_is_read_and_taken_under_its_name() -> None:
    model = make_gpt2().eval()
    ids = torch.arange(8)[None]
    with torch.no_grad():
        whole = model(ids).logits
        cache = read_cache(model(ids[:, :5], use_cache=True))
        rest = model(ids[:, 5:], use_cache=True, **{CACHE: cache}).logits
    assert cache.get_seq_length() == 8
    assert torch.allclose(rest, whole[:, 5:], atol=1e-5)
