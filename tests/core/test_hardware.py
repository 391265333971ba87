"""The table of GPUs and CPUs, and their names."""

import pytest

from llmkit.core.errors import UsageError
from llmkit.core.hardware import default_mfu, find_device, get_device, list_names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA A100-SXM4-40GB", "a100-40"),
        ("NVIDIA A100 80GB PCIe", "a100-80-pcie"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("Tesla T4", "t4"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("Tesla V100-SXM2-32GB", "v100-32"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("AMD Instinct MI300X", "mi300x"),
        ("AMD EPYC 9654 96-Core Processor", "zen4"),
        ("Intel(R) Xeon(R) Platinum 8480+", "sapphire-rapids"),
        ("H100", "h100"),
        ("a100_80", "a100-80"),
        ("4090", "rtx4090"),
    ],
)
def test_name_of_a_driver_or_a_user_means_its_entry(name: str, expected: str) -> None:
    device = find_device(name)
    assert device is not None
    assert device.name == expected


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA GH200 480GB",
        "A100",
        "AMD EPYC",
    ],
)
def test_unknown_or_ambiguous_name_of_a_device_matches_none(name: str) -> None:
    assert find_device(name) is None


def test_unknown_gpu_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        get_device("h1000")
    assert "did you mean 'h100'?" in str(caught.value)


def test_figures_of_the_table_are_consistent() -> None:
    for name in list_names():
        device = get_device(name)
        rates = device.flops
        assert 1e12 < rates["fp32"] <= rates.get("tf32", rates["fp32"]) <= rates.get("bf16", 1e18)
        assert rates.get("bf16", 0) == pytest.approx(2 * rates.get("tf32", rates.get("bf16", 0) / 2), rel=0.02)
        assert (device.n_bytes is None) == (device.kind == "cpu")
        assert 0 < default_mfu(device.kind).share < 1


def test_gpu_without_bf16_is_planned_in_fp32() -> None:
    assert (get_device("v100").precision, get_device("t4").precision) == ("fp32", "fp32")
    assert (get_device("a10").precision, get_device("zen3").precision) == ("bf16", "fp32")
