"""Damaged model folders give an llmkit error in every command, and never open with random weights."""

import json
import random
import resource
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from tiny import make_gpt2, make_messages, write_table
from transformers import AutoModelForCausalLM, BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

import llmkit
from llmkit.config.prepare import TokenizerSection
from llmkit.core.errors import ModelError, UsageError
from llmkit.tokens.training_tokenizers import train_tokenizer

TEXT = "the cash prize is here, call home later. " * 200
MAX_SECONDS = 30
INDEX = "model.safetensors.index.json"


def train_tiny_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    return train_tokenizer(iter([TEXT]), TokenizerSection(kind=kind, vocab_size=300))


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = train_tiny_tokenizer("byte-bpe")
    make_gpt2(vocab_size=len(tokenizer), n_positions=32).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bert")
    tokenizer = train_tiny_tokenizer("wordpiece")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=64, id2label={0: "ham", 1: "spam"}, label2id={"ham": 0, "spam": 1},
    )  # fmt: skip
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def prepared(gpt2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "a.txt").write_text(TEXT + "\n\n" + TEXT[::-1], encoding="utf-8")
    llmkit.prepare(folder / "a.txt", folder / "data", prepare__tokenizer__path=str(gpt2))
    return folder / "data"


def copy_model(source: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in source.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def remove_a_tensor(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[next(name for name in sorted(weights) if ".1." in name and name.endswith("weight"))]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def add_a_layer(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    key = "n_layer" if "n_layer" in config else "num_hidden_layers"
    (folder / "config.json").write_text(json.dumps(config | {key: config[key] + 1}))


def evaluate(model: Path, folder: Path, data: Path) -> None:
    (folder / "a.txt").write_text(TEXT, encoding="utf-8")
    llmkit.evaluate(model, folder / "a.txt")


def generate(model: Path, folder: Path, data: Path) -> None:
    llmkit.generate(model, "the cash", max_new_tokens=2)


def pretrain(model: Path, folder: Path, data: Path) -> None:
    llmkit.pretrain(data=data, out=folder / "run", model=model, task="clm", train__max_steps=1)


def finetune(model: Path, folder: Path, data: Path) -> None:
    table = write_table(folder / "rows.csv", make_messages(40))
    llmkit.finetune(data=table, out=folder / "run", model=model, train__max_steps=1)


def predict(model: Path, folder: Path, data: Path) -> None:
    llmkit.predict(model, ["call home", "cash prize"])


COMMANDS = [("gpt2", command) for command in (evaluate, generate, pretrain, finetune)]
COMMANDS += [("bert", command) for command in (predict, finetune)]


@pytest.mark.parametrize("damage", [remove_a_tensor, add_a_layer])
@pytest.mark.parametrize(("kind", "command"), COMMANDS, ids=[f"{kind}-{each.__name__}" for kind, each in COMMANDS])
def test_model_that_lacks_weights_is_refused_by_every_command(
    kind: str,
    command: Callable[[Path, Path, Path], None],
    damage: Callable[[Path], None],
    prepared: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    model = copy_model(request.getfixturevalue(kind), tmp_path / "model")
    damage(model)
    with pytest.raises(ModelError, match=r"lacks .* of its weights|weights of the encoder are missing"):
        command(model, tmp_path, prepared)
    assert not (tmp_path / "run" / "model").exists()


NUMBERS_OF_GENERATION = (
    "max_length", "min_length", "min_new_tokens", "num_beams", "num_return_sequences", "temperature", "top_k", "top_p",
    "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff", "repetition_penalty", "length_penalty", "diversity_penalty",
    "encoder_repetition_penalty", "no_repeat_ngram_size", "guidance_scale", "max_time", "forced_eos_token_id",
    "forced_bos_token_id", "bos_token_id", "decoder_start_token_id", "num_beam_groups",
)  # fmt: skip


@pytest.mark.parametrize("number", [-1, 0, 10**12, 1e308, float("nan"), float("inf")], ids=repr)
@pytest.mark.filterwarnings("ignore")
def test_numbers_of_a_strangers_generation_config_change_nothing(number: Any, gpt2: Path, tmp_path: Path) -> None:
    model = copy_model(gpt2, tmp_path / "model")
    numbers = dict.fromkeys(NUMBERS_OF_GENERATION, number)
    lists = {"begin_suppress_tokens": [number], "bad_words_ids": [[number]]}
    (text,) = (each["text"] for each in llmkit.generate(gpt2, "the cash", max_new_tokens=4))
    own = json.loads((model / "generation_config.json").read_text())
    (model / "generation_config.json").write_text(json.dumps(own | numbers | lists))
    with time_limit(MAX_SECONDS):
        assert [each["text"] for each in llmkit.generate(model, "the cash", max_new_tokens=4)] == [text]


@pytest.mark.filterwarnings("ignore")
def test_model_trained_from_one_with_absurd_numbers_of_generation_is_saved_and_used(
    gpt2: Path, prepared: Path, tmp_path: Path
) -> None:
    model = copy_model(gpt2, tmp_path / "model")
    numbers = dict.fromkeys(NUMBERS_OF_GENERATION, 10**12) | {"temperature": float("nan"), "top_p": -1}
    (model / "generation_config.json").write_text(json.dumps(numbers))
    pretrain(model, tmp_path, prepared)
    assert llmkit.generate(tmp_path / "run", "the cash", max_new_tokens=4)[0]["n_tokens"] > 0


@pytest.mark.parametrize(
    "setting", [*({"eos_token_id": ids} for ids in (1.5, float("nan"), "x", [[0]], {})), {"max_new_tokens": -1},
                {"pad_token_id": {}}, {"cache_implementation": 7}, {"compile_config": 1}], ids=repr
)  # fmt: skip
def test_settings_of_generation_that_cannot_be_read_are_refused_with_the_file(
    setting: dict[str, Any], gpt2: Path, tmp_path: Path
) -> None:
    model = copy_model(gpt2, tmp_path / "model")
    (model / "generation_config.json").write_text(json.dumps(setting))
    with pytest.raises(ModelError) as caught:
        llmkit.generate(model, "the cash", max_new_tokens=4)
    problem = caught.value.problems[0]
    assert "generation_config.json" in problem.where and problem.hint.startswith("remove the ")


def save_in_shards(folder: Path) -> None:
    """Replace the weights with several files and their index."""
    kind = AutoModelForCausalLM if (folder / "generation_config.json").is_file() else BertForSequenceClassification
    model = kind.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert (folder / INDEX).is_file() and len(list(folder.glob("*.safetensors"))) > 1


def change_header(header: dict[str, Any], change: dict[str, Any]) -> bytes:
    name = next(name for name in header if name != "__metadata__")
    header[name] |= change
    data = json.dumps(header).encode()
    return len(data).to_bytes(8, "little") + data


HEADERS: list[dict[str, Any]] = [
    {"shape": [10**6, 10**6]}, {"shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}, {"shape": [2**63, 2]},
    {"shape": [0, 10**15], "data_offsets": [0, 0]}, {"shape": [1] * 100_000}, {"data_offsets": [0, 2**62]},
    {"data_offsets": [2**62, 2**62 + 4]}, {"dtype": "F4096"}, {"shape": []},
]  # fmt: skip


@pytest.mark.parametrize("change", HEADERS, ids=lambda change: str(change)[:60])
@pytest.mark.parametrize("is_sharded", [False, True])
def test_weights_that_claim_absurd_sizes_are_refused_in_little_memory(
    is_sharded: bool, change: dict[str, Any], gpt2: Path, tmp_path: Path
) -> None:
    model = copy_model(gpt2, tmp_path / "model")
    if is_sharded:
        save_in_shards(model)
    path = max(model.glob("*.safetensors"))
    data = path.read_bytes()
    n_header = int.from_bytes(data[:8], "little")
    path.write_bytes(change_header(json.loads(data[8 : 8 + n_header]), change) + data[8 + n_header :])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with time_limit(MAX_SECONDS), pytest.raises(ModelError):
        generate(model, tmp_path, tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


@pytest.mark.parametrize("n_header", [0, 1, 2**32, 2**63, 2**64 - 1])
def test_weights_with_an_absurd_length_of_the_header_are_refused(n_header: int, gpt2: Path, tmp_path: Path) -> None:
    model = copy_model(gpt2, tmp_path / "model")
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").write_bytes(n_header.to_bytes(8, "little") + data[8:])
    with time_limit(MAX_SECONDS), pytest.raises(ModelError):
        generate(model, tmp_path, tmp_path)


@pytest.mark.parametrize(
    "index",
    [
        *(
            "",
            "[]",
            "{}",
            '{"weight_map": []}',
            '{"weight_map": {}}',
            '{"weight_map": null}',
            '{"weight_map": {"a": 7}}',
        ),
        *('{"weight_map": {"a": "config.json"}}', '{"weight_map": {"a": ["b.safetensors"]}}'),
        '{"metadata": {"total_size": 1e30}, "weight_map": {"transformer.wte.weight": "missing.safetensors"}}',
    ],
)
def test_damaged_index_of_shards_is_refused(index: str, gpt2: Path, tmp_path: Path) -> None:
    model = copy_model(gpt2, tmp_path / "model")
    save_in_shards(model)
    (model / INDEX).write_text(index)
    with time_limit(MAX_SECONDS), pytest.raises(ModelError):
        generate(model, tmp_path, tmp_path)


# Mutations


VALUES: list[Any] = [None, True, -1, 0, 1, 7, 2**31, 2**32, 2**63, 2**64, 10**30, -(10**12), 1.5, 1e308, float("nan"),
                     float("inf"), "", "x", "\0", "../x", [], {}, [1], {"a": 1}, [[]], "a" * 10_000]  # fmt: skip


def paths_of(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        yield (*path, key)
        yield from paths_of(part, (*path, key))


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Change or remove a random JSON value, put its neighbour's in its place, or change random bytes."""
    if rng.random() < 0.8:
        tree = json.loads(data)
        *path, key = rng.choice([each for each in paths_of(tree) if len(each) < 3 or rng.random() < 0.1])
        part = tree
        for step in path:
            part = part[step]
        how = rng.random()
        if how < 0.2:
            del part[key]
        elif how < 0.4:
            part[key] = rng.choice([*part.values()] if isinstance(part, dict) else part)
        else:
            part[key] = rng.choice(VALUES)
        return json.dumps(tree).encode()
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed[: rng.randrange(len(changed))] if rng.random() < 0.3 else changed)


def mutate_weights(data: bytes, rng: random.Random) -> bytes:
    n_header = int.from_bytes(data[:8], "little")
    if rng.random() < 0.1:
        return rng.randbytes(8) + data[8:]
    header = mutate(data[8 : 8 + n_header], rng)
    return len(header).to_bytes(8, "little") + header + data[8 + n_header :]


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json", "model.safetensors")
N_MUTATIONS = 500
MUTATED = [("gpt2", generate, name) for name in FILES] + [("bert", predict, name) for name in FILES]
MUTATED += [(*road, INDEX) for road in COMMANDS]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("kind", "command", "name"), MUTATED, ids=[f"{kind}-{each.__name__}-{name}" for kind, each, name in MUTATED]
)
def test_mutated_model_files_give_a_result_or_an_llmkit_error(
    kind: str,
    command: Callable[[Path, Path, Path], None],
    name: str,
    prepared: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    model = copy_model(request.getfixturevalue(kind), tmp_path / "model")
    if name == INDEX:
        save_in_shards(model)
    if not (model / name).is_file():
        (model / name).write_text('{"eos_token_id": 0, "pad_token_id": 0, "max_length": 20}')
    whole = (model / name).read_bytes()
    failed: dict[str, int] = {}
    n_refused = 0
    for seed in range(N_MUTATIONS):
        rng = random.Random(seed)
        changed = mutate_weights(whole, rng) if name == "model.safetensors" else mutate(whole, rng)
        (model / name).write_bytes(changed)
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        try:
            with time_limit(MAX_SECONDS):
                command(model, tmp_path, prepared)
        except (ModelError, UsageError):
            n_refused += 1
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            failed.setdefault(f"{type(error).__name__}: {str(error)[:100]}", seed)
    assert not failed
    assert n_refused > N_MUTATIONS / 4 or name == "generation_config.json"
