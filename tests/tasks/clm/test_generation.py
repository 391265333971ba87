import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from llmkit.config.generate import Generate
from llmkit.config.prepare import TokenizerSection
from llmkit.core.errors import ModelError
from llmkit.tasks.clm.generation import PAD_ID, Sample, _describe_samples, generate_texts
from llmkit.tokens.tokenizer import encode_texts
from llmkit.tokens.training_tokenizers import train_tokenizer

LETTERS = "abcdefghijklmnopqrstuvwxyz .,"
CONTEXT = 24
PROMPTS = ["to be", "", "a", "or not to be, that is"]


@pytest.fixture(autouse=True)
def transformers_says_nothing() -> Iterator[None]:
    """What transformers logs here, a user would see."""
    printed: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: printed.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger("transformers")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)
    assert printed == []


@pytest.fixture(scope="module")
def letters() -> PreTrainedTokenizerFast:
    return train_tokenizer([LETTERS], TokenizerSection(kind="char"))


def gpt2(tokenizer: PreTrainedTokenizerFast, seed: int = 0, **changes: Any) -> GPT2LMHeadModel:
    """Weights far larger than a new model's, in double precision, so that texts differ and near ties do not matter."""
    torch.manual_seed(seed)
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=CONTEXT,
        n_embd=32,
        n_layer=2,
        n_head=2,
        initializer_range=0.4,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **changes,
    )
    return GPT2LMHeadModel(config).double().eval()


@pytest.fixture(scope="module")
def model(letters: PreTrainedTokenizerFast) -> GPT2LMHeadModel:
    return gpt2(letters)


def smallest(vocab_size: int, **changes: Any) -> GPT2Config:
    shape = {"n_positions": 500, "n_embd": 8, "n_layer": 1, "n_head": 1}
    return GPT2Config(vocab_size=vocab_size, bos_token_id=0, eos_token_id=0, **shape, **changes)


class Parrot(GPT2LMHeadModel):
    """Generates given tokens, starting with the first token after the prompt, then ends its text."""

    script: list[int]
    n_prompt: int

    def forward(self, *args: Any, position_ids: torch.Tensor, **kwargs: Any) -> Any:
        output = super().forward(*args, position_ids=position_ids, **kwargs)
        steps = (position_ids[:, -1] + 1 - self.n_prompt).tolist()
        output.logits.fill_(-100.0)
        for row, step in enumerate(steps):
            output.logits[row, -1, self.script[step] if step < len(self.script) else self.config.eos_token_id] = 100.0
        return output


def parrot(tokenizer: PreTrainedTokenizerFast, prompt: str, says: str) -> Parrot:
    config = smallest(len(tokenizer))
    model = Parrot(config)
    model.script = encode_texts(tokenizer, [says])[0].tolist()
    model.n_prompt = len(encode_texts(tokenizer, [prompt])[0])
    return model


def write(model: Any, tokenizer: PreTrainedTokenizerFast, *prompts: str, **settings: Any) -> list[Sample]:
    """The first sample of each prompt."""
    groups = generate_texts(model, tokenizer, list(prompts), Generate(**settings))
    return [group[0] for group in groups]


def reread(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, prompt: str, n_tokens: int) -> str:
    """Greedy text as generate.py's docstring describes it, with no cache, no padding and no `generate`."""
    ids = encode_texts(tokenizer, [prompt])[0].tolist() or [tokenizer.eos_token_id]
    n_round = n_tokens if len(ids) + n_tokens - 1 <= CONTEXT else CONTEXT // 8
    written: list[int] = []
    start = 0
    for step in range(n_tokens):
        if step % n_round == 0:
            n_window = CONTEXT - min(n_round, n_tokens - step) + 1
            start = max(0, len(ids) - n_window)
        logits = model(torch.tensor([ids[start:]])).logits[0, -1]
        logits[[tokenizer.pad_token_id, tokenizer.unk_token_id]] = -torch.inf
        token_id = int(logits.argmax())
        if token_id == tokenizer.eos_token_id:
            break
        ids.append(token_id)
        written.append(token_id)
    return str(tokenizer.decode(written))


# Greedy, alone and together


@pytest.mark.parametrize("n_tokens", [1, 2, 7, 60])
@pytest.mark.parametrize("seed", [0, 1])
def test_greedy_text_is_the_likeliest_token_each_time(
    letters: PreTrainedTokenizerFast, seed: int, n_tokens: int
) -> None:
    model = gpt2(letters, seed)
    for prompt in [*PROMPTS, "x" * CONTEXT, "hello " * 20]:
        (sample,) = write(model, letters, prompt, temperature=0, max_new_tokens=n_tokens)
        assert sample.text == reread(model, letters, prompt, n_tokens)


@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.5}, {"num_beams": 3}])
@pytest.mark.parametrize("n_tokens", [3, 60])
def test_prompts_of_unequal_length_write_together_what_they_write_alone(
    letters: PreTrainedTokenizerFast, settings: dict[str, Any], n_tokens: int
) -> None:
    model = gpt2(letters, seed=3)
    prompts = [*PROMPTS, "hello " * 20]
    together = write(model, letters, *prompts, temperature=0, max_new_tokens=n_tokens, **settings)
    alone = [write(model, letters, prompt, temperature=0, max_new_tokens=n_tokens, **settings)[0] for prompt in prompts]
    assert together == alone
    assert len({sample.text for sample in alone}) > 1


def test_repetition_penalty_does_not_count_padding_as_generated(letters: PreTrainedTokenizerFast) -> None:
    model = gpt2(letters)
    # The text ends (id 0, which also fills) once no other token is likelier, unless the penalty has struck its end.
    model.lm_head.register_forward_hook(lambda *given: given[2].index_fill(-1, torch.tensor(PAD_ID), 3.0))
    settings: dict[str, Any] = {"temperature": 0, "repetition_penalty": 1.3, "max_new_tokens": 12}
    together = write(model, letters, "aaaaaaaaab", "b", "cab", **settings)
    assert together == [write(model, letters, prompt, **settings)[0] for prompt in ("aaaaaaaaab", "b", "cab")]
    assert {sample.finish_reason for sample in together} == {"eos"}


def test_more_prompts_than_fit_one_batch_come_back_in_order(model: Any, letters: PreTrainedTokenizerFast) -> None:
    prompts = [letter * n for n in range(1, 4) for letter in LETTERS]
    samples = write(model, letters, *prompts, temperature=0, max_new_tokens=2)
    assert [sample.prompt for sample in samples] == prompts
    assert [sample.text for sample in samples] == [reread(model, letters, prompt, 2) for prompt in prompts]


# The context


def test_model_of_24_positions_writes_far_beyond_them(letters: PreTrainedTokenizerFast) -> None:
    model = gpt2(letters)
    model.lm_head.register_forward_hook(lambda *given: given[2].index_fill_(-1, torch.tensor(0), -100.0))  # no end
    (sample,) = write(model, letters, "to be", max_new_tokens=5 * CONTEXT)
    assert sample.n_tokens == len(sample.text) == 5 * CONTEXT
    assert (sample.finish_reason, sample.n_prompt_tokens_dropped) == ("length", 0)


def test_prompt_longer_than_the_context_loses_its_beginning_and_says_so(
    model: Any, letters: PreTrainedTokenizerFast
) -> None:
    end = "that is the question, whether"[-CONTEXT:]
    short, long = write(model, letters, end, "x" * 70 + end, temperature=0, max_new_tokens=1)
    assert long.text == short.text
    assert (short.n_prompt_tokens_dropped, long.n_prompt_tokens_dropped) == (0, 70)


def test_leading_bos_token_stays_in_front_of_every_window(letters: PreTrainedTokenizerFast) -> None:
    tokenizer = train_tokenizer([LETTERS], TokenizerSection(kind="char"))
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    tokenizer.add_bos_token = True
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    first_ids = []
    model.register_forward_pre_hook(lambda *given: first_ids.append(given[2]["input_ids"]), with_kwargs=True)
    (sample,) = write(model, tokenizer, "hello " * 8, max_new_tokens=40)
    prefills = [ids for ids in first_ids if ids.shape[1] > 1]
    assert len(prefills) > 1 and sample.n_prompt_tokens_dropped > 0
    assert all(ids[0, 0] == tokenizer.bos_token_id for ids in prefills)
    assert all((ids[0, 1:] != tokenizer.bos_token_id).all() for ids in prefills)


# Where a text ends


def test_text_ends_at_the_end_of_text_which_is_not_counted(letters: PreTrainedTokenizerFast) -> None:
    (sample,) = write(parrot(letters, "to be", " or not"), letters, "to be", temperature=0)
    assert sample == Sample("to be", " or not", 7, "eos")


def test_text_ends_at_max_new_tokens(letters: PreTrainedTokenizerFast) -> None:
    (sample,) = write(parrot(letters, "to be", " or not"), letters, "to be", temperature=0, max_new_tokens=3)
    assert sample == Sample("to be", " or", 3, "length")


@pytest.mark.parametrize("num_beams", [1, 3])
def test_text_ends_before_a_stop_string(letters: PreTrainedTokenizerFast, num_beams: int) -> None:
    model = parrot(letters, "a", "bcd, efg. hij")
    (sample,) = write(model, letters, "a", temperature=0, num_beams=num_beams, stop=[". ", "d, e"])
    assert (sample.text, sample.finish_reason, sample.n_tokens) == ("bc", "stop", 6)


def test_rows_that_have_ended_emit_no_text_while_others_continue(letters: PreTrainedTokenizerFast) -> None:
    model = parrot(letters, "aa", "bcdefghij")
    short, long = write(model, letters, "aaaaaa", "aa", temperature=0)
    assert (short.text, short.finish_reason) == ("fghij", "eos")
    assert (long.text, long.finish_reason) == ("bcdefghij", "eos")


def test_ends_saved_with_the_model_end_a_text_and_nothing_else_of_its_settings_counts(
    letters: PreTrainedTokenizerFast,
) -> None:
    model = parrot(letters, "a", "bcd, efg")
    comma = encode_texts(letters, [","])[0].item()
    model.generation_config.update(eos_token_id=[0, comma], max_length=3, do_sample=True, top_k=1, temperature=0.1)
    saved = model.generation_config
    (sample,) = write(model, letters, "a", temperature=0, max_new_tokens=50)
    assert (sample.text, sample.finish_reason) == ("bcd", "eos")
    assert model.generation_config is saved and saved.max_length == 3


def test_padding_and_unknown_tokens_are_never_written(letters: PreTrainedTokenizerFast) -> None:
    model = gpt2(letters)
    with torch.no_grad():
        model.transformer.ln_f.bias.zero_()
        model.lm_head.weight[[letters.pad_token_id, letters.unk_token_id]] *= 50
    (sample,) = write(model, letters, "to be", max_new_tokens=200, temperature=2.0)
    assert len(sample.text) == sample.n_tokens > 0


def test_ids_beyond_the_tokenizer_are_never_written(letters: PreTrainedTokenizerFast) -> None:
    torch.manual_seed(0)
    model = GPT2LMHeadModel(smallest(1000))
    (sample,) = write(model, letters, "to be", max_new_tokens=30)
    assert len(sample.text) == sample.n_tokens


def test_tokenizer_larger_than_the_model_is_refused_when_the_prompt_needs_it(letters: PreTrainedTokenizerFast) -> None:
    model = GPT2LMHeadModel(smallest(8))
    with pytest.raises(ModelError, match=f"{len(letters)} tokens, but the model's embedding has 8 rows"):
        write(model, letters, LETTERS)


# Chance


def test_same_seed_writes_the_same_texts_and_another_seed_others(model: Any, letters: PreTrainedTokenizerFast) -> None:
    def texts(seed: int) -> list[list[Sample]]:
        return generate_texts(model, letters, PROMPTS, Generate(seed=seed, num_samples=3, max_new_tokens=40))

    first = texts(1)
    torch.rand(7)
    assert texts(1) == first
    assert texts(2) != first
    assert [len(group) for group in first] == [3] * len(PROMPTS)
    assert all(len({sample.text for sample in group}) == 3 for group in first)


def test_writing_leaves_mode_and_random_state_as_they_were(letters: PreTrainedTokenizerFast) -> None:
    model = gpt2(letters, resid_pdrop=0.5).train()
    before = torch.random.get_rng_state()
    first, second = (write(model, letters, "to be", temperature=0) for _ in range(2))
    assert first == second  # dropout was off
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("settings", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}, {"temperature": 0.01}])
def test_sampling_among_the_likeliest_alone_is_greedy(
    model: Any, letters: PreTrainedTokenizerFast, settings: dict[str, Any]
) -> None:
    (sampled,) = write(model, letters, "to be", **settings)
    assert [sampled] == write(model, letters, "to be", temperature=0)


def test_without_limits_every_token_can_be_drawn(letters: PreTrainedTokenizerFast) -> None:
    tokenizer = train_tokenizer([chr(0x4E00 + i) for i in range(300)], TokenizerSection(kind="char"))
    model = gpt2(tokenizer)
    # Nearly equal chances, in the same order each time; transformers, left alone, may draw from the 50 likeliest.
    model.lm_head.register_forward_hook(lambda *given: torch.linspace(0, 1e-3, given[2].shape[-1]).expand_as(given[2]))
    groups = generate_texts(model, tokenizer, [""], Generate(num_samples=20, temperature=1.0))
    assert len({letter for sample in groups[0] for letter in sample.text}) > 250


def test_repetition_penalty_makes_a_text_repeat_itself_less(model: Any, letters: PreTrainedTokenizerFast) -> None:
    plain, penalized = (
        write(model, letters, "to be", temperature=0, max_new_tokens=18, repetition_penalty=penalty)[0].text
        for penalty in (1.0, 50.0)
    )
    assert len(set(penalized)) > len(set(plain))


def test_beam_search_finds_a_likelier_text_than_greedy(letters: PreTrainedTokenizerFast) -> None:
    def log_likelihood(model: GPT2LMHeadModel, text: str) -> float:
        ids = torch.tensor(encode_texts(letters, [text])[0].tolist())
        chances = model(ids[None]).logits[0, :-1].log_softmax(-1)
        return float(chances.gather(-1, ids[1:, None]).detach().sum())

    gains = []
    for seed in range(5):
        model = gpt2(letters, seed)
        greedy, beams = (
            write(model, letters, "to be", temperature=0, max_new_tokens=8, num_beams=n)[0].text for n in (1, 6)
        )
        gains.append(log_likelihood(model, "to be" + beams) - log_likelihood(model, "to be" + greedy))
    assert sum(gains) > 0


@pytest.mark.parametrize("n_tokens", [5, 60])
def test_beam_search_gives_its_best_texts_as_samples(
    model: Any, letters: PreTrainedTokenizerFast, n_tokens: int
) -> None:
    settings = Generate(num_beams=4, num_samples=3, temperature=0, max_new_tokens=n_tokens)
    groups = generate_texts(model, letters, PROMPTS, settings)
    assert [[sample.prompt for sample in group] for group in groups] == [[prompt] * 3 for prompt in PROMPTS]
    assert all(len({sample.text for sample in group}) == 3 for group in groups)


# Prompts and streaming


@pytest.mark.parametrize("prompt", ["", "a"])
def test_texts_can_end_if_the_end_of_text_token_is_also_the_pad_token(
    letters: PreTrainedTokenizerFast, prompt: str
) -> None:
    model = GPT2LMHeadModel(smallest(len(letters), pad_token_id=0))
    first, second = generate_texts(model, letters, [prompt, prompt], Generate(temperature=5.0))
    assert {first[0].finish_reason, second[0].finish_reason} == {"eos"}
    assert model.config.pad_token_id == 0


def test_prompt_that_spells_a_special_token_is_read_as_text(letters: PreTrainedTokenizerFast) -> None:
    tokenizer = train_tokenizer([LETTERS + "<|>"], TokenizerSection(kind="char"))
    model = gpt2(tokenizer)
    read = []
    model.register_forward_pre_hook(lambda *given: read.append(given[2]["input_ids"]), with_kwargs=True)
    write(model, tokenizer, "a<|endoftext|>", max_new_tokens=1)
    assert read[0].shape == (1, 14)
    assert (read[0] != tokenizer.eos_token_id).all()


@pytest.mark.parametrize("says", ["却说曹操大喜。", "👨‍👩‍👧 ok 🇨🇳", "e\u0301 …\n\n  x"])
def test_streaming_gives_whole_characters_once_and_together_the_text(says: str) -> None:
    tokenizer = train_tokenizer([], TokenizerSection(kind="byte-bpe", vocab_size=258))
    pieces: list[str] = []
    settings = Generate(temperature=0, stop=["。", "\n\n\n"])
    ((sample,),) = generate_texts(parrot(tokenizer, "却", says), tokenizer, ["却"], settings, pieces.append)
    assert "".join(pieces) == sample.text == says.removesuffix("。")
    assert "" not in pieces and "\ufffd" not in sample.text
    assert len(pieces) > 3


def test_text_comes_while_it_is_written(letters: PreTrainedTokenizerFast) -> None:
    model = parrot(letters, "a", "bcd")
    events: list[str] = []
    model.register_forward_pre_hook(lambda *_: events.append("step"))
    show: Callable[[str], None] = events.append
    generate_texts(model, letters, ["a"], Generate(temperature=0), show)
    assert events == ["step", "b", "step", "c", "step", "d", "step"]


def test_streaming_of_several_texts_at_once_is_refused(model: Any, letters: PreTrainedTokenizerFast) -> None:
    for prompts, n in ((["a", "b"], 1), (["a"], 2)):
        with pytest.raises(ValueError, match="one prompt and one sample"):
            generate_texts(model, letters, prompts, Generate(num_samples=n), lambda _: None)


def test_no_prompts_give_no_samples(model: Any, letters: PreTrainedTokenizerFast) -> None:
    assert generate_texts(model, letters, [], Generate()) == []


# Settings


@pytest.mark.parametrize(
    "settings",
    [
        {"max_new_tokens": 0},
        {"temperature": -1},
        {"temperature": 0.001},
        {"top_k": 0},
        {"top_p": 0},
        {"top_p": 1.1},
        {"min_p": -0.1},
        {"repetition_penalty": 0},
        {"num_beams": 0},
        {"stop": [""]},
        {"temperature": 0, "num_samples": 2},
        {"num_beams": 2, "num_samples": 3},
        {"nucleus": 0.9},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Generate(**settings)


def test_bad_word_that_is_written_all_the_same_is_reported_as_the_model_writes_it() -> None:
    sample = Sample(prompt="", text="a king.", n_tokens=2, finish_reason="length")
    (note,) = _describe_samples([[sample]], Generate(bad_words=["KING"]), ["king"])
    assert note == "1 of 1 texts contain 'king', spelled with other tokens"
