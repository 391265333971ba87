"""The cluster recipes call llmkit with valid options, and resume a run after preemption.

No scheduler is here. The batch scripts run with stand-ins for Slurm's commands; the fields of the YAML files are those
that the documents of SkyPilot and Kubeflow Trainer v2 name.
"""

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from llmkit.cli.app import app
from llmkit.config.loading import load_recipe

CLUSTER = Path(__file__).parents[1] / "recipes/cluster"
PAGE = Path(__file__).parents[1] / "docs/scaling.md"
SCRIPTS = sorted(CLUSTER.glob("*.sbatch"))
SAVE_SECONDS = 120
"""What llmkit's launcher gives its ranks to save."""


def parse(words: list[str]) -> dict[str, Any]:
    """The parameters of a command line, as Typer reads them; a usage error where it does not take them."""
    assert words[0] == "llmkit"
    command: Any = typer.main.get_command(app)
    sub = command.commands[words[1]]
    return dict(sub.make_context(words[1], words[2:]).params)


def check_pretrain(words: list[str], recipe: str, n_nodes: int) -> dict[str, Any]:
    """One command line of `pretrain`, the same on every node."""
    parameters = parse(words)
    assert words[1] == "pretrain"
    assert Path(str(parameters["recipe"])).name == recipe
    assert parameters["resume"] == "auto"
    assert (parameters["nproc"], parameters["nnodes"]) == ("auto", n_nodes)
    assert re.fullmatch(r"[\w.-]+:\d+", parameters["rdzv_endpoint"])
    return parameters


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """The environment of a batch script: stand-ins that write down how they are called."""
    (tmp_path / "bin").mkdir()
    stubs = {
        "srun": 'printf "%s\\n" "$@" > "$CALLS/srun"; exit "${CODE:-0}"',
        "scontrol": 'if [ "$1" = show ]; then printf "n%s\\n" 07 08; else printf "%s " "$@" >> "$CALLS/scontrol"; fi',
        "squeue": 'echo "${STATE:-RUNNING}"',
    }
    for name, body in stubs.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "clone/.venv/bin").mkdir(parents=True)
    (tmp_path / "clone/.venv/bin/activate").write_text("")
    return {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "CALLS": str(tmp_path), "LLMKIT": str(tmp_path / "clone"),
        "SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "n[07-08]", "SLURM_JOB_NUM_NODES": "2",
        "SLURM_CPUS_PER_TASK": "64",
    }  # fmt: skip


def submit(name: str, environment: dict[str, str], **changes: str) -> tuple[int, list[str], str]:
    """Exit code, the arguments of srun, and the commands that scontrol got besides queries."""
    done = subprocess.run(
        ["bash", str(CLUSTER / name)], env=environment | changes, capture_output=True, text=True, check=False
    )
    assert "unbound" not in done.stderr, done.stderr
    calls = Path(environment["CALLS"])
    commands = calls / "scontrol"
    return done.returncode, (calls / "srun").read_text().splitlines(), commands.read_text() if commands.exists() else ""


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_batch_scripts_are_sound_shell_and_say_their_command(path: Path) -> None:
    assert len(SCRIPTS) == 2
    subprocess.run(["bash", "-n", str(path)], check=True)
    assert f"#   sbatch recipes/cluster/{path.name}" in path.read_text()


def directives(name: str) -> dict[str, str]:
    lines = re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", (CLUSTER / name).read_text(), re.M)
    return dict(lines)


def test_every_node_gets_the_same_command_and_the_first_node_as_meeting_place(slurm: dict[str, str]) -> None:
    code, words, commands = submit("slurm-pretrain.sbatch", slurm)
    start = words.index("llmkit")
    parameters = check_pretrain(words[start:], "gpt2-small.yaml", 2)
    assert parameters["rdzv_endpoint"] == "n07:23456"
    assert (str(parameters["data"]), str(parameters["out"])) == ("/shared/data/corpus", "/shared/runs/gpt2-small")
    assert {"--cpus-per-task=64", "--kill-on-bad-exit=0"} <= set(words[:start])
    assert (code, commands) == (0, "")
    assert directives("slurm-pretrain.sbatch")["ntasks-per-node"] == "1"


@pytest.mark.parametrize(
    ("code", "state", "requeued"),
    [
        ("143", "RUNNING", True),
        ("143", "COMPLETING", False),  # scancel, or Slurm puts it back itself
        ("0", "RUNNING", False),
        ("5", "RUNNING", False),  # NaN or a dead rank: somebody should look
        ("2", "RUNNING", False),
    ],
)
def test_job_that_was_stopped_goes_back_into_the_queue_and_no_other(
    slurm: dict[str, str], code: str, state: str, requeued: bool
) -> None:
    ended, _, commands = submit("slurm-pretrain.sbatch", slurm, CODE=code, STATE=state)
    assert ended == int(code)
    assert commands == ("requeue 123456 " if requeued else "")


def test_slurm_signals_the_tasks_in_time_and_not_the_shell() -> None:
    found = directives("slurm-pretrain.sbatch")
    signal = re.fullmatch(r"TERM@(\d+)", found["signal"])  # B:TERM would reach the shell alone
    assert signal
    assert int(signal.group(1)) > SAVE_SECONDS + 60, "Slurm may be a minute off"
    assert "requeue" in found
    assert found["open-mode"] == "append"


def test_prepare_job_runs_prepare(slurm: dict[str, str]) -> None:
    code, words, _ = submit("slurm-prepare.sbatch", slurm)
    parameters = parse(words[words.index("llmkit") :])
    assert (code, parameters["inputs"], str(parameters["out"])) == (0, ["/shared/corpus"], "/shared/data/corpus")
    assert Path(str(parameters["recipe"])).name == "gpt2-small.yaml"
    assert submit("slurm-prepare.sbatch", slurm, CODE="3")[0] == 3
    assert "requeue" in directives("slurm-prepare.sbatch")


def test_skypilot_job_comes_back_and_types_what_llmkit_takes(tmp_path: Path) -> None:
    job = yaml.safe_load((CLUSTER / "skypilot.yaml").read_text())
    assert set(job) <= {"name", "num_nodes", "resources", "volumes", "envs", "run"}
    recovery = job["resources"]["job_recovery"]
    assert recovery["recover_on_exit_codes"] == [143]
    assert recovery["max_restarts_on_errors"] > 0
    assert all(job["envs"][name].startswith("/shared/") for name in ("DATA", "RUN"))
    assert list(job["volumes"]) == ["/shared"]
    (tmp_path / "llmkit").write_text('#!/bin/bash\nprintf "%s\\n" llmkit "$@"\nexit 143\n')
    (tmp_path / "llmkit").chmod(0o755)
    given = {"SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2", "SKYPILOT_NUM_NODES": str(job["num_nodes"])}
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", **job["envs"], **given}
    done = subprocess.run(["bash", "-euc", job["run"]], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 143, "SkyPilot must see llmkit's own exit code"
    parameters = check_pretrain(done.stdout.splitlines(), "gpt2-small.yaml", 2)
    assert parameters["rdzv_endpoint"] == "10.0.0.1:29500"
    assert parameters["out"] == Path(job["envs"]["RUN"])


@pytest.fixture
def manifests() -> dict[str, Any]:
    """The documents of kubernetes.yaml by kind."""
    return {each["kind"]: each for each in yaml.safe_load_all((CLUSTER / "kubernetes.yaml").read_text())}


def test_kubernetes_documents_refer_to_each_other(manifests: dict[str, Any]) -> None:
    runtime, job, claim = (manifests[kind] for kind in ("TrainingRuntime", "TrainJob", "PersistentVolumeClaim"))
    assert {runtime["apiVersion"], job["apiVersion"]} == {"trainer.kubeflow.org/v1alpha1"}
    assert job["spec"]["runtimeRef"] == {
        "apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime", "name": runtime["metadata"]["name"]
    }  # fmt: skip
    (node,) = runtime["spec"]["template"]["spec"]["replicatedJobs"]
    assert node["template"]["metadata"]["labels"]["trainer.kubeflow.org/trainjob-ancestor-step"] == "trainer"
    pod = node["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["name"] == node["name"] == "node", "the names that the Trainer looks for"
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
    claims = [each["persistentVolumeClaim"]["claimName"] for each in pod["volumes"] if "persistentVolumeClaim" in each]
    assert claims == [claim["metadata"]["name"]]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    resources = job["spec"]["trainer"]["resourcesPerNode"]
    assert resources["requests"]["nvidia.com/gpu"] == resources["limits"]["nvidia.com/gpu"]


def test_kubernetes_restarts_all_pods_after_preemption_and_gives_time_to_save(manifests: dict[str, Any]) -> None:
    template = manifests["TrainingRuntime"]["spec"]["template"]["spec"]
    job = template["replicatedJobs"][0]["template"]["spec"]
    assert job["backoffLimit"] == 0, "one pod alone cannot come back into a running job"
    pod = job["template"]["spec"]
    assert pod["restartPolicy"] == "Never", "podFailurePolicy needs it"
    assert pod["terminationGracePeriodSeconds"] > SAVE_SECONDS
    disruption, stopped = job["podFailurePolicy"]["rules"]
    assert {disruption["action"], stopped["action"]} == {"FailJob"}
    assert disruption["onPodConditions"] == [{"type": "DisruptionTarget", "status": "True"}]
    assert stopped["onExitCodes"] == {"containerName": "node", "operator": "In", "values": [143]}
    (rule,) = template["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("RestartJobSetAndIgnoreMaxRestarts", ["PodFailurePolicy"])
    assert template["failurePolicy"]["maxRestarts"] > 0


def test_kubernetes_command_is_what_llmkit_takes(manifests: dict[str, Any]) -> None:
    trainer = manifests["TrainJob"]["spec"]["trainer"]
    given = {"PET_NNODES": str(trainer["numNodes"]), "PET_MASTER_ADDR": "gpt2-small-node-0-0.gpt2-small"}
    given["PET_MASTER_PORT"] = "29500"
    words = [re.sub(r"\$\((\w+)\)", lambda found: given[found.group(1)], word) for word in trainer["command"]]
    parameters = check_pretrain(words, "gpt2-small.yaml", 2)
    assert parameters["rdzv_endpoint"] == "gpt2-small-node-0-0.gpt2-small:29500"
    assert str(parameters["data"]).startswith("/shared/")


def test_batch_of_the_recipe_is_shared_evenly_by_the_gpus() -> None:
    recipe = load_recipe(CLUSTER.parent / "gpt2-small.yaml", [])
    assert recipe.train.global_batch_size % 16 == 0


def test_every_line_of_the_recipes_is_explained() -> None:
    """Every directive, and every field that is no mere container of others, is named in docs/scaling.md as code."""
    code = " ".join(re.findall(r"`([^`\n]+)`", PAGE.read_text()))
    wanted = {f"--{name}" for path in SCRIPTS for name in directives(path.name)}
    calls = r"\b(?:srun --cpus-per-task|scontrol \w+|squeue --\w+|set -\w+|--kill-on-bad-exit|--wait)"
    wanted |= {word for path in SCRIPTS for word in re.findall(calls, path.read_text())}
    for path in CLUSTER.glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            wanted |= set(leaves(document))
    missing = sorted(word for word in wanted if not re.search(rf"(?<![\w-]){re.escape(word)}(?![\w])", code))
    assert len(wanted) > 50
    assert not missing


def leaves(value: Any) -> list[str]:
    """The keys of a YAML document that hold no further keys."""
    if isinstance(value, dict):
        return [word for key, each in value.items() for word in (leaves(each) or [key.rpartition("/")[2]])]
    if isinstance(value, list):
        return [word for each in value for word in leaves(each)]
    return []


def test_commands_of_the_page_are_commands_of_llmkit() -> None:
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.S)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.startswith("llmkit ")]
    assert lines
    for line in lines:
        parse(shlex.split(line))
