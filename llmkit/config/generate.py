"""How `generate` chooses the next token, how much it writes, and where it stops.

The names are those of transformers' `generate` where it has one. Nothing about the model or the prompts.
"""

from pydantic import Field, field_validator, model_validator

from llmkit.config.section import Section


class Generate(Section):
    """Decoding. With the same seed, prompts and settings the same text is written again."""

    max_new_tokens: int = Field(default=200, ge=1, description="Most tokens a sample gets; it may end sooner.")
    temperature: float = Field(default=0.8, ge=0, le=100, description="0 always takes the likeliest token (greedy).")
    top_k: int | None = Field(default=None, ge=1, description="Sample among the k likeliest tokens only.")
    top_p: float | None = Field(default=None, gt=0, le=1, description="Among the likeliest that add up to p only.")
    min_p: float | None = Field(default=None, ge=0, le=1, description="Among tokens above this share of the best's.")
    repetition_penalty: float = Field(default=1.0, gt=0, description="Above 1 makes what stands already less likely.")
    num_beams: int = Field(default=1, ge=1, description="Above 1 is beam search: with temperature 0, or sampled beams.")
    num_samples: int = Field(default=1, ge=1, description="Texts for each prompt; with beams, the best so many.")
    seed: int = Field(default=0, ge=0, lt=2**63, description="Another seed writes another text.")
    stop: list[str] = Field(default=[], description="The text ends before the first of these strings.")

    @field_validator("temperature")
    @classmethod
    def _temperature_does_not_overflow(cls, temperature: float) -> float:
        if 0 < temperature < 0.01:
            raise ValueError("logits are divided by it, so take 0 (greedy) or at least 0.01")
        return temperature

    @field_validator("stop")
    @classmethod
    def _stop_strings_say_something(cls, stop: list[str]) -> list[str]:
        if "" in stop:
            raise ValueError("an empty stop string would end every text before it begins")
        return stop

    @model_validator(mode="after")
    def _samples_can_differ(self) -> "Generate":
        if self.num_beams == 1 and self.temperature == 0 and self.num_samples > 1:
            raise ValueError(
                "greedy decoding writes the same text each time: set temperature above 0, or num_samples 1"
            )
        if self.num_beams > 1 and self.num_samples > self.num_beams:
            raise ValueError("beam search keeps num_beams texts: set num_samples to num_beams or less")
        return self
