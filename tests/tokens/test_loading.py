"""Loading a tokenizer: from folders, runs and the hub, without its code and without needless network."""

import json
import shutil
import socket
from pathlib import Path
from unittest.mock import Mock

import pytest
from huggingface_hub import constants
from tiny import digests
from transformers import (
    AlbertConfig,
    AutoTokenizer,
    BertConfig,
    BertTokenizer,
    GPT2Tokenizer,
    PreTrainedTokenizerFast,
)

from llmkit.config.prepare import TokenizerSection
from llmkit.core.errors import EnvironmentFault, ModelError
from llmkit.tokens.loading import _plain_class, load_tokenizer
from llmkit.tokens.tokenizer import fingerprint_tokenizer
from llmkit.tokens.training_tokenizers import train_tokenizer

KINDS = ["byte-bpe", "wordpiece", "char", "word"]


def train(kind: str, vocab_size: int = 500) -> PreTrainedTokenizerFast:
    texts = ["All: Speak, speak. 却说曹操见了关公。"] * 5
    return train_tokenizer(iter(texts), TokenizerSection(kind=kind, vocab_size=vocab_size))


@pytest.mark.parametrize("kind", [*KINDS, "gpt2", "bert"])
def test_class_loaded_without_auto_tokenizer_equals_its_choice(kind: str, tmp_path: Path) -> None:
    own = {"gpt2": ("byte-bpe", GPT2Tokenizer), "bert": ("wordpiece", BertTokenizer)}
    train(own[kind][0] if kind in own else kind).save_pretrained(tmp_path / "first")
    if kind in own:
        given = own[kind][1].from_pretrained(tmp_path / "first")
        shutil.rmtree(tmp_path / "first")
        given.save_pretrained(tmp_path / "first")
    assert _plain_class(tmp_path / "first") == ("TokenizersBackend" if kind in KINDS else own[kind][1].__name__)
    taken, ours = AutoTokenizer.from_pretrained(tmp_path / "first"), load_tokenizer(str(tmp_path / "first"))
    assert type(ours) is type(taken)
    for name, tokenizer in (("taken", taken), ("ours", ours)):
        tokenizer.save_pretrained(tmp_path / name)
    assert digests(tmp_path / "ours") == digests(tmp_path / "taken")
    assert fingerprint_tokenizer(ours) == fingerprint_tokenizer(taken)


def test_auto_tokenizer_decides_if_more_than_the_class_name_matters(tmp_path: Path) -> None:
    train("byte-bpe").save_pretrained(tmp_path)
    file = tmp_path / "tokenizer_config.json"
    config = json.loads(file.read_text())
    for other in ({"auto_map": {}}, {"tokenizer_class": "LlamaTokenizer"}, {"tokenizer_class": None}):
        file.write_text(json.dumps(config | other))
        assert _plain_class(tmp_path) is None
    file.write_text(json.dumps(config))
    assert _plain_class(tmp_path) == "TokenizersBackend"
    (tmp_path / "config.json").write_text("{}")
    assert _plain_class(tmp_path) is None


def test_missing_folder_and_folder_without_tokenizer_are_model_errors(tmp_path: Path) -> None:
    BertConfig().save_pretrained(tmp_path)  # alone, it would load as an empty BERT tokenizer
    for path in (tmp_path, tmp_path / "nothing", Path("./nothing"), tmp_path / "config.json"):
        given = f"./{path}" if not path.is_absolute() else str(path)
        with pytest.raises(ModelError, match=r"no tokenizer in this folder|no such folder") as caught:
            load_tokenizer(given)
        assert str(caught.value).count("\n") == 2 and given in str(caught.value)


def test_run_folder_has_the_tokenizer_of_its_model(tmp_path: Path) -> None:
    tokenizer = train("word")
    tokenizer.save_pretrained(tmp_path / "run" / "model")
    assert fingerprint_tokenizer(load_tokenizer(str(tmp_path / "run"))) == fingerprint_tokenizer(tokenizer)


def test_damaged_tokenizer_is_a_model_error_of_three_lines(tmp_path: Path) -> None:
    train("byte-bpe").save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ModelError) as caught:
        load_tokenizer(str(tmp_path))
    assert str(caught.value).count("\n") == 2


def test_code_that_comes_with_a_tokenizer_is_not_run(tmp_path: Path) -> None:
    train("byte-bpe").save_pretrained(tmp_path)
    canary = tmp_path / "canary"
    (tmp_path / "evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: ...\n")
    file = tmp_path / "tokenizer_config.json"
    for tokenizer_class in ("TokenizersBackend", "Evil"):
        config = json.loads(file.read_text()) | {
            "auto_map": {"AutoTokenizer": [None, "evil.Evil"]},
            "tokenizer_class": tokenizer_class,
        }
        file.write_text(json.dumps(config))
        try:
            load_tokenizer(str(tmp_path))
        except ModelError as error:
            assert "code" in str(error)
        assert not canary.exists()


def test_tokenizer_without_a_fast_backend_is_a_model_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train("char").save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')  # such that AutoTokenizer is asked
    monkeypatch.setattr(AutoTokenizer, "from_pretrained", lambda *_, **__: object())
    with pytest.raises(ModelError, match="not backed by the tokenizers library"):
        load_tokenizer(str(tmp_path))


def test_local_folder_never_touches_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train("byte-bpe").save_pretrained(tmp_path)

    def connect(*_: object) -> None:
        raise AssertionError("the network was touched")

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket.socket, "connect", connect)
    monkeypatch.setattr(socket, "getaddrinfo", connect)
    assert len(load_tokenizer(str(tmp_path))) > 256


def test_hub_out_of_reach_is_an_environment_fault_that_names_the_cache() -> None:
    with pytest.raises(EnvironmentFault) as caught:
        load_tokenizer("nobody/nothing")
    assert "HF_HUB_OFFLINE" in caught.value.problems[0].hint


def test_name_that_the_hub_could_not_have_is_a_model_error() -> None:
    with pytest.raises(ModelError, match="neither a folder here nor a model on the hub"):
        load_tokenizer("books and plays/1")


def test_sentencepiece_model_alone_is_read_or_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    (tmp_path / "text").write_text("the king saw a good knight\nwho sang in the old house\n" * 50)
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "spiece"), vocab_size=25, pad_id=0, unk_id=1,
        bos_id=-1, eos_id=-1, control_symbols=["[CLS]", "[SEP]", "[MASK]"], minloglevel=2,
    )  # fmt: skip
    AlbertConfig(vocab_size=25).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    assert tokenizer.decode(tokenizer("the king")["input_ids"], skip_special_tokens=True) == "the king"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", Mock(side_effect=ValueError("tiktoken")))
    with pytest.raises(EnvironmentFault, match="sentencepiece is not installed"):
        load_tokenizer(str(tmp_path))
