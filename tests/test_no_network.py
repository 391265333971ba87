"""Fault 38: local paths need no network, and an unreachable hub ends a command soon, with a hint.

In processes of their own, as libraries read the variables for going offline when they are imported; here none is set.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import make_messages, save_bert, write_table

ROOT = Path(__file__).parents[1]
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


def environment(home: Path, proxy: str = "") -> dict[str, str]:
    """As an ordinary user has it, with a hub cache of its own that is empty, and perhaps behind a proxy."""
    ours = {key: value for key, value in os.environ.items() if key.upper() not in VARIABLES and "OFFLINE" not in key}
    ours |= {"HF_HOME": str(home), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return ours | (dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), proxy) if proxy else {})


DENY = """
import json, socket, sys
touched = []
def refuse(*arguments, **_):
    touched.append(repr(arguments))
    raise OSError("the network was touched")
for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, refuse)
socket.getaddrinfo = refuse
from llmkit.cli import app
app._leave = sys.exit  # this process has more to do
codes = []
for words in json.loads(sys.argv[1]):
    sys.argv = ["llmkit", *words]
    try:
        app.main()
    except SystemExit as done:
        codes.append(done.code or 0)
print(json.dumps({"touched": touched, "codes": codes}))
"""


def test_every_command_works_on_local_paths_without_a_network(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("".join(f"Line {n} of a book, and {n * n} more.\n" for n in range(400)))
    write_table(tmp_path / "rows.csv", make_messages(40), ("text", "label"))
    save_bert(tmp_path / "bert")
    smoke = ROOT / "recipes/smoke"
    roads = [
        f"prepare book.txt --out data --recipe {smoke}/prepare.yaml",
        f"pretrain {smoke}/pretrain.yaml --data data --out run",
        "eval run",
        "generate run --prompt Line -s generate.max_new_tokens=3",
        "report run",
        "finetune-cls --model bert --data rows.csv --out classes -s train.max_steps=2 --test rows.csv",
        "eval classes --data rows.csv",
        "predict classes --data rows.csv --out labelled.csv",
    ]
    done = subprocess.run(
        [sys.executable, "-c", DENY, json.dumps([road.split() for road in roads])],
        cwd=tmp_path, env=environment(tmp_path / "hf"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"touched": [], "codes": [0] * len(roads)}, done.stderr


@pytest.mark.parametrize(
    "command",
    [
        "eval nobody/nothing --data book.txt",
        "prepare hf:nobody/nothing --out data",
        "finetune-cls --model nobody/nothing --data rows.csv --out run",
    ],
)
def test_hub_out_of_reach_is_exit_code_4_with_the_way_out(tmp_path: Path, command: str) -> None:
    (tmp_path / "book.txt").write_text("A line.\n")
    write_table(tmp_path / "rows.csv", make_messages(40), ("text", "label"))
    before = set(tmp_path.iterdir())
    with socket.socket() as taken:  # so that nobody listens there
        taken.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{taken.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "llmkit", *command.split()], cwd=tmp_path, env=environment(tmp_path / "hf", proxy),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert done.returncode == 4, done.stderr
    error = [line for line in done.stderr.splitlines() if line.startswith(("error:", "where:", "hint:"))]
    assert "cannot be reached" in error[0]
    assert "HF_HUB_OFFLINE=1" in error[2]
    assert "Traceback" not in done.stderr
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "hf"}
