"""A BERT is scored on fixed masks and pairs, which no training epoch has seen."""

from pathlib import Path

import pytest
from tiny import make_documents, make_sentence_split, save_bert

from llmkit.config.evaluate import Evaluate
from llmkit.config.mlm import Mlm
from llmkit.config.prepare import Prepare
from llmkit.core.errors import DataError, UsageError
from llmkit.datasets.sentences import Sentences
from llmkit.models.loading import load_masked_lm
from llmkit.tasks.mlm.scoring import evaluation_seed, pairs_of, score_text, where_from
from llmkit.tokens.tokenizer import load_tokenizer

TEXT = "win the prize now. free cash is at home! you call me soon? we meet later. good day to you.\n\n" * 12


def score(tmp_path: Path, text: str = TEXT, **settings: object) -> dict[str, object]:
    path = str(tmp_path / "bert") if (tmp_path / "bert").exists() else save_bert(tmp_path / "bert")
    (tmp_path / "a.txt").write_text(text)
    evaluate = Evaluate(block_size=32, **settings)  # type: ignore[arg-type]
    network, tokenizer = load_masked_lm(path), load_tokenizer(path)
    return score_text(
        network, tokenizer, [str(tmp_path / "a.txt")], Prepare(chinese_words="characters"), evaluate, Mlm()
    )


def test_masks_follow_from_the_seed_alone_and_not_from_how_many_go_at_once(tmp_path: Path) -> None:
    first, again, other = (score(tmp_path, seed=seed, batch_size=size) for seed, size in ((0, 16), (0, 3), (1, 16)))
    assert first["n_masked"] == again["n_masked"]
    assert first["mlm_loss"] == pytest.approx(again["mlm_loss"], rel=1e-5)
    assert first["mlm_loss"] != pytest.approx(other["mlm_loss"], rel=1e-5)


def test_held_out_masks_are_not_those_of_a_training_with_the_same_seed() -> None:
    seeds = {evaluation_seed(Evaluate(seed=seed)) for seed in range(100)}
    assert len(seeds) == 100
    assert seeds.isdisjoint(range(100))


def test_model_without_a_head_for_pairs_is_scored_on_full_sentences(tmp_path: Path) -> None:
    found = score(tmp_path)
    method = found["method"]
    assert isinstance(method, dict)
    assert (method["examples"], method["block_size"], method["chinese_words"]) == ("full sentences", 32, "characters")
    assert not [name for name in found if name.startswith(("nsp", "sop"))]
    assert "documents" not in found and "pseudo_perplexity" not in found


def test_pseudo_perplexity_is_added_where_it_is_asked_for(tmp_path: Path) -> None:
    found = score(tmp_path, pseudo_perplexity=6)
    records = found["documents"]
    assert isinstance(records, list)
    assert [record["n_tokens"] for record in records] == [6]
    assert found["pseudo_perplexity"] == pytest.approx(records[0]["pseudo_perplexity"])


def test_unknown_words_are_said_as_no_figure_counts_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = score(tmp_path, TEXT + "却说曹操。")
    assert found["n_unknown_tokens"] == 5
    assert "5 tokens" in capsys.readouterr().err


def test_text_without_a_sentence_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text to score"):
        score(tmp_path, " \n\n")


def test_block_without_room_for_two_segments_is_refused(tmp_path: Path) -> None:
    split = make_sentence_split(tmp_path / "held", make_documents(3, 1, 5))
    tokenizer = load_tokenizer(save_bert(tmp_path / "bert"))
    with pytest.raises(UsageError, match="block_size 7 has no room"):
        pairs_of(split, tokenizer, Mlm(), 7, 0)
    assert len(pairs_of(split, tokenizer, Mlm(sentence_objective="none"), 8, 0)[0].input_ids) <= 8
    assert where_from(Sentences(split)) == "from another document"
    alone = make_sentence_split(tmp_path / "one", make_documents(1, 1, 5))
    assert where_from(Sentences(alone)) == "from a distant passage"
