"""The metrics of a masked language model; baselines are those of a constant prediction."""

from llmkit.metrics.spec import Metric, MetricSet

CORRECT = "share of correct predictions"


def _pair_metrics(prefix: str, name: str, place: int) -> tuple[Metric, ...]:
    """The metrics of next-sentence prediction or sentence order."""
    accuracy = f"{name.replace(' ', '-')} accuracy"
    return (
        Metric(
            f"{prefix}_loss", f"{name}, nats", higher_is_better=False,
            chart=f"{accuracy.removesuffix(' accuracy').capitalize()} loss", unit="nats per pair", logged=True,
        ),
        Metric(
            f"{prefix}_accuracy", accuracy, "{:.2%}", note=CORRECT, headline=place,
            baseline=f"{prefix}_baseline_accuracy", chart=f"Held-out {accuracy}",
            progress=f"{prefix} accuracy {{:.1%}}",
        ),
        Metric(f"{prefix}_baseline_accuracy", "  most frequent relation", "{:.2%}"),
    )  # fmt: skip


METRICS = MetricSet(
    (
        Metric(
            "mlm_loss", "masked-token loss, nats", higher_is_better=False, title="masked-token loss",
            note="nats per masked token", headline=5, chart="Masked-token loss", unit="nats per masked token",
            logged=True,
        ),
        Metric(
            "mlm_perplexity", "perplexity, masked tokens", "{:,.3f}", higher_is_better=False, title="perplexity",
            note="per masked token", headline=2,
        ),
        Metric(
            "mlm_accuracy", "masked-token accuracy", "{:.2%}", note=CORRECT, headline=1,
            baseline="mlm_baseline_accuracy", chart="Held-out masked-token accuracy",
            progress="mlm accuracy {:.1%}",
        ),
        Metric("mlm_baseline_accuracy", "  most frequent token", "{:.2%}"),
        Metric("mlm_top5_accuracy", "  top-5 accuracy", "{:.2%}"),
        Metric("n_masked", "  over masked tokens", "{:,}"),
        *_pair_metrics("nsp", "next sentence", 3),
        *_pair_metrics("sop", "sentence order", 4),
        Metric("n_pairs", "  over pairs", "{:,}"),
        Metric("pseudo_perplexity", "pseudo-perplexity", "{:,.3f}", higher_is_better=False),
    ),
    loss_unit="the losses of tokens and of pairs together",
)  # fmt: skip
