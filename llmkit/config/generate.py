"""Decoding settings of `generate`, with the names of transformers' `generate`."""

from pydantic import Field, field_validator, model_validator

from llmkit.config.section import Section

MAX_NEW_TOKENS, MAX_SAMPLES, MAX_BEAMS = 1_000_000, 10_000, 1_000
MAX_TOKENS = 100_000_000
"""Maximum number of tokens over all samples of all prompts; one day at 1,200 tokens/s."""


class Generate(Section):
    """Decoding. The same seed, prompts and settings produce the same text."""

    max_new_tokens: int = Field(
        default=200, ge=1, le=MAX_NEW_TOKENS, description="Maximum number of new tokens per sample."
    )
    min_new_tokens: int = Field(
        default=0,
        ge=0,
        le=MAX_NEW_TOKENS,
        description="Minimum number of tokens before the end-of-text token; a stop string may end the text earlier.",
    )
    temperature: float = Field(default=0.8, ge=0, le=100, description="Divides the logits; 0: greedy decoding.")
    top_k: int | None = Field(default=None, ge=1, le=10**7, description="Sample from the k most likely tokens.")
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Sample from the smallest set of most likely tokens whose probabilities sum to at least p.",
    )
    min_p: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Minimum probability of a sampled token, as a fraction of the highest probability.",
    )
    repetition_penalty: float = Field(
        default=1.0, gt=0, le=1_000, description="Values above 1 penalize tokens that already occurred."
    )
    no_repeat_ngram_size: int = Field(
        default=0,
        ge=0,
        le=10**6,
        description="Size of token n-grams that may not occur twice in prompt and text, within the context; 0: off.",
    )
    bad_words: list[str] = Field(
        default=[],
        description="Words to exclude: their token sequences, with and without a preceding space.",
    )
    num_beams: int = Field(
        default=1,
        ge=1,
        le=MAX_BEAMS,
        description="Number of beams; above 1: beam search, or beam sampling with a temperature above 0.",
    )
    num_samples: int = Field(default=1, ge=1, le=MAX_SAMPLES, description="Number of texts per prompt.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Random seed.")
    stop: list[str] = Field(default=[], description="Strings that end the text; the text does not include them.")

    @field_validator("temperature")
    @classmethod
    def _temperature_does_not_overflow(cls, temperature: float) -> float:
        if 0 < temperature < 0.01:
            raise ValueError("values between 0 and 0.01 can overflow; set it to 0 (greedy decoding) or at least 0.01")
        return temperature

    @field_validator("stop")
    @classmethod
    def _stop_strings_are_not_empty(cls, stop: list[str]) -> list[str]:
        if "" in stop:
            raise ValueError("an empty stop string would end every text before it begins")
        return stop

    @field_validator("bad_words")
    @classmethod
    def _bad_words_are_not_blank(cls, bad_words: list[str]) -> list[str]:
        if not all(map(str.strip, bad_words)):
            raise ValueError("a bad word needs a character other than white space")
        return bad_words

    @model_validator(mode="after")
    def _lengths_fit(self) -> "Generate":
        if self.min_new_tokens > self.max_new_tokens:
            raise ValueError(
                f"min_new_tokens {self.min_new_tokens} exceeds max_new_tokens {self.max_new_tokens}; change one"
            )
        return self

    @model_validator(mode="after")
    def _samples_can_differ(self) -> "Generate":
        if self.num_beams == 1 and self.temperature == 0 and self.num_samples > 1:
            raise ValueError(
                "greedy decoding writes the same text each time; set temperature above 0, or num_samples to 1"
            )
        if self.num_beams > 1 and self.num_samples > self.num_beams:
            raise ValueError("beam search keeps num_beams texts; set num_samples to num_beams or less")
        return self
