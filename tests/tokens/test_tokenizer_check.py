"""Untrusted tokenizers end in an error of three lines within seconds, with bounded memory."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmkit.core.errors import ModelError
from llmkit.tokens import tokenizer_check
from llmkit.tokens.loading import load_tokenizer
from llmkit.tokens.tokenizer import count_ids, encode_texts
from llmkit.tokens.tokenizer_check import KNOWN_PATTERNS, catch_panics, hide_panic_traces

VOCAB = {"<unk>": 0, "<eos>": 1, "a": 2, "b": 3, "ab": 4}


def write_tokenizer(folder: Path, **parts: Any) -> Path:
    model = {"type": "WordLevel", "vocab": VOCAB, "unk_token": "<unk>"}
    state = {"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None, "model": model} | parts
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(state), encoding="utf-8")
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<eos>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def replace(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def sequence(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(steps)}


def add(number: int, content: str, **more: bool) -> dict[str, Any]:
    keys = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    return keys | {"id": number, "content": content} | more


def words(**more: Any) -> dict[str, Any]:
    return {"type": "WordLevel", "vocab": VOCAB | more, "unk_token": "<unk>"}


HOSTILE = {
    "a regex that backtracks": {"pre_tokenizer": split("(a+)+c")},
    "a regex that is quadratic for each place": {"pre_tokenizer": split(r"(?:.*.*)*=")},
    "a regex of a normalizer": {"normalizer": replace("(x+x+)+y|(q+)+z", "", "Regex")},
    "a replacement of each letter": {"normalizer": replace("a", "a" * 100_000)},
    "replacements of replacements": {"normalizer": sequence(*[replace("a", "aa")] * 30)},
    "replacements of a rare word": {"normalizer": sequence(*[replace("xyzzy", "xyzzyxyzzy")] * 30)},
    "a long prefix": {"normalizer": sequence(*[{"type": "Prepend", "prepend": "a" * 1_000_000}] * 3)},
    "a replacement in an added token": {
        "normalizer": sequence(*[replace("µ", "µµ")] * 40), "added_tokens": [add(5, "µ" * 50, normalized=True)]
    },
    "a regex that is slow on its own letters": {"pre_tokenizer": split("[qx]+[qx]+[qx]+y")},
    "a regex that is slow on its own words": {"pre_tokenizer": split("(?:qx)*(?:qx)*(?:qx)*(?:qx)+#")},
    "a regex that is slow on Greek": {"pre_tokenizer": split(r"\p{Greek}+\p{Greek}+\p{Greek}+y")},
    "a decoder that multiplies": {"decoder": sequence(*[replace("a", "aa")] * 30) | {"type": "Sequence"}},
    "a regex that is not one": {"pre_tokenizer": split("(((")},
    "a damaged table of characters": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAAAA=="}},
    "an id beyond 32 bits": {"model": words(c=2**32)},
    "an id of 32 bits": {"model": words(c=2**32 - 1)},
    "a negative id": {"model": words(c=-1)},
    "an id that is a text": {"model": words(c="5")},
    "an id that is a list": {"model": words(c=[5])},
    "ids that need another type": {"model": words(c=300)},
    "an added id of 32 bits": {"added_tokens": [add(2**32 - 1, "<x>")]},
    "merges that are not in the vocabulary": {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["a b"]}},
    "merges of nothing": {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": ["x y"]}},
    "merges of one part": {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": [["a"]]}},
    "a model of no known type": {"model": {"type": "Nothing", "vocab": {}}},
    "no model": {"model": None},
    "a vocabulary that is a number": {"model": {"type": "WordLevel", "vocab": 5, "unk_token": "<unk>"}},
    "steps that are texts": {"normalizer": "NFC", "pre_tokenizer": 5},
}  # fmt: skip
HOSTILE["a decoder that multiplies"]["decoder"] = {"type": "Sequence", "decoders": [replace("a", "aa")] * 30}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_tokenizer_is_a_model_error_before_it_is_used(
    tmp_path: Path, what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = write_tokenizer(tmp_path, **HOSTILE[what])
    with pytest.raises(ModelError) as caught:
        load_tokenizer(str(folder))
    [problem] = caught.value.problems
    assert str(folder) in problem.where
    assert problem.hint
    assert "panicked" not in capfd.readouterr().err


def test_hostile_tokenizer_ends_a_command_in_three_lines(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "tokenizer", **HOSTILE["merges that are not in the vocabulary"])
    (tmp_path / "a.txt").write_text("a b\n" * 100, encoding="utf-8")
    command = [sys.executable, "-m", "llmkit", "prepare", str(tmp_path / "a.txt"), "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, "-s", f"prepare.tokenizer.path={folder}"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 6
    assert [line[:6] for line in done.stderr.splitlines()[-3:]] == ["error:", "where:", "hint: "]
    assert "panicked" not in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "vocab.txt"])
def test_file_of_a_tokenizer_that_is_too_large_is_refused_unread(tmp_path: Path, name: str) -> None:
    folder = write_tokenizer(tmp_path)
    with (folder / name).open("ab") as file:
        file.truncate(tokenizer_check.MAX_FILE_BYTES + 1)
    with pytest.raises(ModelError, match=f"{name} has 268,435,457 bytes"):
        load_tokenizer(str(folder))


def test_too_many_added_tokens_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_check, "MAX_ADDED_TOKENS", 10)
    folder = write_tokenizer(tmp_path, added_tokens=[add(number, f"<{number}>") for number in range(5, 16)])
    with pytest.raises(ModelError, match="there are 11 added tokens; at most 10 are read"):
        load_tokenizer(str(folder))


def test_vocabulary_with_a_hole_is_taken_and_counts_its_largest_id(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(write_tokenizer(tmp_path, model=words(c=9))))
    assert (len(tokenizer), count_ids(tokenizer)) == (6, 10)
    assert encode_texts(tokenizer, ["c"])[0].tolist() == [9]


def test_known_patterns_start_no_process_and_handle_the_texts_of_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: dict[str, Any] = {
        "normalizer": sequence(*[replace(" ", "▁"), replace(" {2,}", " ", "Regex")]),
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split(each) for each in sorted(KNOWN_PATTERNS)]},
    }
    tokenizer_check._probe(steps | {"decoder": None}, [], "tokenizer.json")
    monkeypatch.setattr(subprocess, "run", None)
    assert len(load_tokenizer(str(write_tokenizer(tmp_path, **steps)))) == 5


@pytest.mark.parametrize(
    "pattern",
    [
        r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
        r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}{1,3}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        r"\p{Han}+|[一-龥]{1,4}",
        "<[^>]*>",
    ],
)
def test_unknown_patterns_that_end_are_taken(tmp_path: Path, pattern: str) -> None:
    assert len(load_tokenizer(str(write_tokenizer(tmp_path, pre_tokenizer=split(pattern))))) == 5


def test_tokenizer_from_the_cache_of_the_hub_is_checked_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tokenizer(tmp_path / "snapshot", model=words(c=-1))
    monkeypatch.setattr("llmkit.tokens.loading.fetch_from_hub", lambda *_, **__: folder.joinpath)
    with pytest.raises(ModelError, match="-1 is not the id of a token"):
        load_tokenizer("somebody/model")


def test_panic_in_a_text_is_a_model_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokenizer_check, "_probe", lambda *_: None)
    tokenizer = load_tokenizer(str(write_tokenizer(tmp_path, pre_tokenizer=split("(a+)+c"))))
    with pytest.raises(ModelError, match="cannot encode a text: Onig: Regex search error: retry-limit"):
        encode_texts(tokenizer, ["a" * 60])


def test_other_exceptions_and_what_is_written_pass_through(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyboardInterrupt), hide_panic_traces(), catch_panics("it fails", "here"):
        print("kept", file=sys.__stderr__, flush=True)
        raise KeyboardInterrupt
    assert "kept" in capfd.readouterr().err
