"""Every number of a recipe at and beyond its bounds: the command ends or starts, in little memory."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asked import make_articles, write_squad
from tiny import make_messages, make_tagged, save_bert, save_gpt2, write_conll, write_table
from warm_process import run_warm

from llmkit.config.loading import load_recipe
from llmkit.config.recipe import RECIPES
from llmkit.preparing.prepare import prepare

MAX_CPU_SECONDS = 2.0
USUAL_CPU_SECONDS = 0.5
"""Of an ordinary start on the machine for which the limits were set. They grow in proportion on slower machines."""
SLOW = {
    "model.n_layer=1000": 60.0,
    "model.n_positions=1000000": 6.0,
    "train.block_size=1000000": 6.0,
    "train.num_workers=256": 10.0,
    "generate.num_samples=10000": 6.0,
}
"""CPU seconds of legitimate work: a thousand layers, a million positions, the processes of a loader, many samples."""
CODES = (0, 2, 3, 4)
"""3: no document of the small text is left, or is long enough."""
MAX_MEGABYTES = 1000
COMMANDS = {
    "clm": "pretrain-clm --data bytes --out {out} -s train.block_size=16 {small} {train}",
    "mlm": "pretrain-mlm --data words --out {out} -s train.block_size=16 {small} {train}",
    "cls": "finetune-cls --data rows.csv --model bert --out {out} -s cls.baseline=false {train}",
    "ner": "finetune-ner --data words.conll --model bert --out {out} -s ner.baseline=false {train}",
    "qa": "finetune-qa --data questions.json --model bert --out {out} -s qa.baseline=false {small_windows} {train}",
    "prepare": "prepare book.txt --out {out}",
    "eval": "eval gpt2 --data book.txt",
    "eval-cls": "eval {run}/model --data rows.csv",
    "generate": "generate gpt2 --prompt call",
}
SMALL = "-s model.n_layer=1 -s model.n_head=2 -s model.n_embd=16"
SMALL_WINDOWS = "-s train.block_size=48 -s qa.stride=8 -s qa.max_question_length=12"
TRAIN = "-s train.precision=fp32 -s train.eval_steps=1 -s train.max_steps=2 -s train.max_eval_samples=4"
COMPANIONS = {
    "prepare.dedup.near_threshold": "-s prepare.dedup.near=true",
    "model.n_kv_head": "-s model.family=llama",
    "model.embedding_size": "-s model.family=gru -s model.n_head=null",
    "model.adaptive_cutoffs": "-s model.family=gru -s model.n_head=null -s model.tie_embeddings=false",
    "model.init_range": "-s model.init=normal",
    "optim.momentum": "-s optim.name=sgd",
    "optim.muon_learning_rate": "-s optim.name=muon",
    "optim.muon_momentum": "-s optim.name=muon",
    "optim.plateau_factor": "-s optim.schedule=plateau",
    "optim.decay_steps": "-s optim.schedule=wsd",
    "cls.stride": "-s cls.long_texts=windows",
    "cls.max_windows": "-s cls.long_texts=windows",
    "cls.lora_alpha": "-s cls.lora_rank=2",
    "ner.lora_alpha": "-s ner.lora_rank=2",
    "qa.lora_alpha": "-s qa.lora_rank=2",
    "generate.num_samples": "-s generate.temperature=1",
    "generate.length_penalty": "-s generate.num_beams=2",
}
"""What makes a command read the key."""
SAMPLE = (
    "prepare prepare.tokenizer.vocab_size", "clm model.dropout", "clm train.global_batch_size",
    "cls train.micro_batch_size", "eval evaluate.batch_size", "generate generate.num_samples",
)  # fmt: skip


def numbers_in(schema: Any) -> Iterator[tuple[dict[str, Any], str]]:
    """The schemas of the numbers of a key, with the form in which they are written."""
    if schema.get("type") in ("integer", "number"):
        yield schema, "{}"
    for each in schema.get("anyOf", []):
        yield from numbers_in(each)
    for inner, form in (("items", "[{}]"), ("additionalProperties", "{{spam: {}, ham: 1}}")):
        if isinstance(schema.get(inner), dict):
            yield from ((number, form) for number, _ in numbers_in(schema[inner]))


def keys_of(schema: dict[str, Any], definitions: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in schema["properties"].items():
        if reference := value.get("$ref"):
            yield from keys_of(definitions[reference.rpartition("/")[2]], definitions, f"{path}{name}.")
        else:
            yield from ((f"{path}{name}", number) for number in numbers_in(value))


def values_of(number: dict[str, Any]) -> list[str]:
    """The bounds, what lies just outside of them, and what no bound should let through."""
    is_int = number["type"] == "integer"
    low, high = number.get("minimum", 1), number.get("maximum", 10**7)
    tiny, step = (1, 1) if is_int else (1e-9, 1e-6)
    low = number["exclusiveMinimum"] + tiny if "exclusiveMinimum" in number else low
    high = number["exclusiveMaximum"] - tiny if "exclusiveMaximum" in number else high
    values = [low, high, low - step, high + max(step, high * step), -1, 10**30, -(10**30), 1e308]
    return [*dict.fromkeys(str(value) for value in values), ".nan", ".inf", "-.inf"]


def make_cases() -> dict[str, list[tuple[str, str]]]:
    """Settings and what makes them read, by command and key."""
    cases: dict[str, list[tuple[str, str]]] = {}
    for task, recipe in RECIPES.items():
        schema = recipe.model_json_schema()
        for key, (number, form) in keys_of(schema, schema["$defs"]):
            section = key.partition(".")[0]
            own = {"prepare": ["prepare"], "evaluate": ["eval", "eval-cls"], "generate": ["generate"]}
            for command in own.get(section, [task]):
                settings = [(f"{key}={form.format(value)}", COMPANIONS.get(key, "")) for value in values_of(number)]
                cases[f"{command} {key}"] = settings
    return cases


CASES = make_cases()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("numbers")
    texts = [f"{text}. It is {number} o'clock!" for number, (text, _) in enumerate(make_messages(60))]
    (folder / "book.txt").write_text("\n".join(texts), encoding="utf-8")
    for name, kind in (("bytes", "byte-bpe"), ("words", "wordpiece")):
        words = [f"prepare.tokenizer.kind={kind}", "prepare.tokenizer.vocab_size=300", "prepare.split.validation=0.2"]
        prepare([str(folder / "book.txt")], folder / name, load_recipe(None, words).prepare)
    save_bert(folder / "bert")
    save_gpt2(folder / "gpt2")
    write_table(folder / "rows.csv", make_messages(60))
    write_squad(folder / "questions.json", make_articles(12))
    write_conll(folder / "words.conll", make_tagged(60))
    command = COMMANDS["cls"].format(out="run", train=TRAIN).split()
    assert [each.code for each in run_warm([command], folder, stop=False)] == [0]
    return folder


def start(folder: Path, names: list[str]) -> dict[str, str]:
    """Run the cases; what went wrong, by the setting."""
    commands, shown = [], []
    for case in names:
        command = COMMANDS[case.split()[0]]
        for setting, companion in CASES[case]:
            paths = {"out": f"out{len(shown)}", "run": "run", "small": SMALL, "train": TRAIN}
            words = command.format(small_windows=SMALL_WINDOWS, **paths).split()
            commands.append([*words, *companion.split(), "-s", setting])
            shown.append(f"{case.split()[0]} {setting}")
    ordinary = COMMANDS["clm"].format(out="ordinary", run="run", small=SMALL, train=TRAIN).split()
    usual, *outcomes = run_warm([ordinary, *commands], folder)
    scale = max(1.0, usual.cpu_seconds / USUAL_CPU_SECONDS)
    wrong = {}
    for setting, outcome in zip(shown, outcomes, strict=True):
        max_seconds = scale * SLOW.get(setting.split()[1], MAX_CPU_SECONDS)
        is_slow = outcome.cpu_seconds > max_seconds or outcome.megabytes > MAX_MEGABYTES
        if outcome.code not in CODES or is_slow:
            wrong[setting] = f"{outcome.code} {outcome.cpu_seconds:.1f} s {outcome.megabytes:.0f} MB {outcome.stderr}"
    return wrong


def test_extreme_numbers_of_a_sample_of_keys_end_or_start_a_command_in_little_memory(folder: Path) -> None:
    wrong = start(folder, list(SAMPLE))
    assert not wrong, "\n".join(map(": ".join, wrong.items()))


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_extreme_numbers_of_every_key_end_or_start_a_command_in_little_memory(folder: Path, command: str) -> None:
    wrong = start(folder, [name for name in CASES if name.split()[0] == command])
    assert not wrong, "\n".join(map(": ".join, wrong.items()))
