"""Two simulated hosts on one machine: a run over their network compared with one on a single host, and a lost host.

    sudo python benchmarks/two_hosts.py

Needs root and `ip` (Linux): makes two network namespaces with one address each, connected by a virtual cable, and
removes them at the end. They reach only each other. Prints the maximum relative difference of logged losses and
gradient norms between one process and two hosts, with torchrun (c10d rendezvous) and with llmkit's launcher; what one
host does when all processes of the other are killed; and the same difference after --resume on both.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOSTS = {"llmkit-a": "10.77.0.1", "llmkit-b": "10.77.0.2"}
ENDPOINT = "10.77.0.1:29500"
CABLE = "wire0"
SETTINGS = {
    "model.n_layer": 2, "model.n_head": 2, "model.n_embd": 64, "model.dropout": 0, "train.block_size": 64,
    "train.global_batch_size": 8, "train.micro_batch_size": 4, "train.max_steps": 60, "train.eval_steps": 20,
    "train.save_steps": 5, "train.log_steps": 1, "train.precision": "fp32", "train.ddp_timeout": 30,
}  # fmt: skip
TOLERANCE = 1e-5


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as name, two_hosts():
        folder = Path(name)
        llmkit = [sys.executable, "-m", "llmkit"]
        text = Path(__file__).parents[1] / "docs"
        prepare = ["prepare", str(text), "--out", str(folder / "data"), "-s", "prepare.tokenizer.vocab_size=500"]
        subprocess.run([*llmkit, *prepare], check=True, capture_output=True)
        train = ["pretrain-clm", "--data", str(folder / "data")]
        train += [word for key, value in SETTINGS.items() for word in ("-s", f"{key}={value}")]
        alone = folder / "alone"
        subprocess.run([*llmkit, *train, "--out", str(alone)], check=True, capture_output=True)
        own = [*llmkit, *train, "--nproc", "1", "--nnodes", "2", "--rdzv-endpoint", ENDPOINT, "--out"]
        wide = folder / "torchrun"
        ended = wait([start(host, [*torchrun(address), *train, "--out", str(wide)]) for host, address in HOSTS.items()])
        report("two hosts, torchrun", ended, alone, wide)
        wide = folder / "own"
        ended = wait([start(host, [*own, str(wide)]) for host in HOSTS])
        report("two hosts, --nnodes 2", ended, alone, wide)
        broken = folder / "broken"
        hosts = [start(host, [*own, str(broken)]) for host in HOSTS]
        while not list(broken.glob("checkpoints/step-1?")):
            time.sleep(0.02)
        os.killpg(hosts[1].pid, signal.SIGKILL)
        killed = time.monotonic()
        ended = wait(hosts)
        print(f"host b killed: a ended with {ended[0][0]} after {time.monotonic() - killed:.1f} s and printed:")
        print("".join(f"    {line}\n" for line in ended[0][1].splitlines() if not line.startswith("step")), end="")
        ended = wait([start(host, [*own, str(broken), "--resume"]) for host in HOSTS])
        report("resumed on both", ended, alone, broken)


@contextmanager
def two_hosts() -> Iterator[None]:
    """Two namespaces, each with its own address and nothing else but a loopback."""
    first, second = HOSTS
    try:
        for host in HOSTS:
            run("ip", "netns", "add", host)
        run("ip", "link", "add", CABLE, "netns", first, "type", "veth", "peer", "name", CABLE, "netns", second)
        for host, address in HOSTS.items():
            run("ip", "-n", host, "addr", "add", f"{address}/24", "dev", CABLE)
            run("ip", "-n", host, "link", "set", CABLE, "up")
            run("ip", "-n", host, "link", "set", "lo", "up")
        yield
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "delete", host], check=False)


def run(*command: str) -> None:
    subprocess.run(command, check=True)


def torchrun(address: str) -> list[str]:
    """torch's own command on one of two hosts."""
    options = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", ENDPOINT]
    # Both hosts have one name, by which torchrun would look for its own address.
    options += ["--rdzv-conf", f"is_host={int(ENDPOINT.startswith(address))}"]
    return [sys.executable, "-m", "torch.distributed.run", *options, "--local-addr", address, "-m", "llmkit"]


def start(host: str, command: list[str]) -> subprocess.Popen[str]:
    """A command on one host, in a process group of its own."""
    # gloo would listen where the machine's name points to, which is the same name on both.
    environment = os.environ | {"GLOO_SOCKET_IFNAME": CABLE, "OMP_NUM_THREADS": "1"}
    inside = ["ip", "netns", "exec", host, *command]
    return subprocess.Popen(inside, env=environment, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                            start_new_session=True)  # fmt: skip


def wait(hosts: list[subprocess.Popen[str]]) -> list[tuple[int, str]]:
    """Exit code and stderr of each."""
    output = [host.communicate(timeout=600)[1] for host in hosts]
    return [(host.returncode, text) for host, text in zip(hosts, output, strict=True)]


def compare(run: Path, other: Path) -> float:
    """The greatest relative difference of a loss or gradient norm; raises where a step is missing."""
    logs = [[json.loads(line) for line in (each / "log.jsonl").read_text().splitlines()] for each in (run, other)]
    pairs = [
        (left[name], right[name])
        for left, right in zip(*logs, strict=True)
        for name in ("loss", "grad_norm")
        if name in left
    ]
    return max(abs(left - right) / abs(left) for left, right in pairs)


def report(what: str, ended: list[tuple[int, str]], alone: Path, wide: Path) -> None:
    codes = [code for code, _ in ended]
    if codes != [0, 0]:
        sys.exit(f"{what}: exit codes {codes}\n{ended[0][1]}\n{ended[1][1]}")
    if (difference := compare(alone, wide)) > TOLERANCE:
        sys.exit(f"{what}: {difference:.1e} from one process")
    print(f"{what:<24} exit codes {codes}, at most {difference:.1e} from one process")


if __name__ == "__main__":
    main()
