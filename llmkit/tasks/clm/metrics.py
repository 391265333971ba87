"""The metrics of a causal language model."""

from llmkit.metrics.spec import Metric, MetricSet

METRICS = MetricSet(
    (
        Metric(
            "bits_per_byte", "bits per byte", higher_is_better=False, note="compares across tokenizers", headline=1,
            chart="Held-out bits per byte", expected=True, progress="{:.3f} bits/byte", column="bits/byte",
        ),
        Metric("bits_per_character", "bits per character", higher_is_better=False),
        Metric(
            "loss", "loss, nats per token", higher_is_better=False, title="loss", heading="loss",
            note="nats per token", headline=3, column="loss", per_token=True,
        ),
        Metric(
            "perplexity", "perplexity per token", "{:,.3f}", higher_is_better=False, title="perplexity",
            note="per token", headline=2, column="ppl/token", per_token=True,
        ),
        Metric("word_perplexity", "perplexity per word", "{:,.3f}", higher_is_better=False, column="ppl/word"),
        Metric(
            "accuracy", "next-token accuracy", "{:.2%}", title="accuracy",
            note="share of correct predictions", headline=4, chart="Held-out accuracy",
        ),
        Metric("n_tokens", "over tokens", "{:,}"),
        Metric("n_words", "over words", "{:,}"),
        Metric("n_bytes", "over bytes", "{:,}"),
    )
)  # fmt: skip
