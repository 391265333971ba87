"""The report's data receipt: what went in, what was dropped and why, and what each split holds.

Reads the manifest of a prepared folder, as the run's own manifest carries it under `data`.
"""

from collections.abc import Iterable

from llmkit.pages.page import Html, join, pairs, section, show_value, table, tag
from llmkit.training.run_record import Record, get_number, get_section

SPLIT_COLUMNS = ("rows", "documents", "characters", "bytes", "tokens", "words", "unknown_tokens")
_MAX_SOURCES = 200


def render_data(data: Record) -> Html:
    """The receipt as a section of the page; of what the manifest does not have, nothing."""
    if not data:
        return section("Data", tag("p", "The run's manifest says nothing of its data.", class_="quiet"))
    parts = (_render_splits, _render_overlap, _render_steps, _render_sources, _render_samples)
    return section("Data", _render_totals(data), *(render(data) for render in parts))


def _render_totals(data: Record) -> Html:
    splits = _get_records(get_section(data, "splits").values())
    tokenizer = get_section(data, "tokenizer")
    totals: list[tuple[str, object]] = [(name, _sum(splits, name)) for name in SPLIT_COLUMNS[:5]]
    n_bytes, n_tokens = _sum(splits, "bytes"), _sum(splits, "tokens")
    bytes_per_token = get_number(data, "bytes_per_token") or (n_bytes / n_tokens if n_bytes and n_tokens else None)
    ratio = f"{bytes_per_token:.3f}" if bytes_per_token is not None else None
    facts = [*totals, ("bytes per token", ratio), ("tokenizer", tokenizer.get("kind"))]
    facts += [("vocabulary", tokenizer.get("vocab_size")), ("fingerprint", _shorten(tokenizer.get("fingerprint")))]
    return pairs((name, value) for name, value in facts if value is not None)


def _render_splits(data: Record) -> Html | None:
    splits = {name: part for name, part in get_section(data, "splits").items() if isinstance(part, dict)}
    if not splits:
        return None
    columns = [column for column in SPLIT_COLUMNS if any(column in part for part in splits.values())]
    rows = [[name, *(part.get(column) for column in columns)] for name, part in splits.items()]
    total = ["all", *(_sum(splits.values(), column) for column in columns)]
    header = ["split", *(column.replace("_", " ") for column in columns)]
    by = data.get("split_by")
    return tag("div", tag("h3", f"Splits, by {by}" if by else "Splits"), table(header, rows, total=total))


def _render_overlap(data: Record) -> Html | None:
    """How much of the held-out text stands in the train split, too: a figure over it would be flattered."""
    lines = []
    for split, found in get_section(data, "overlap").items():
        share = get_number(found, "share") if isinstance(found, dict) else None
        if share is not None:
            counts = " of ".join(str(show_value(found.get(key))) for key in ("n_found", "n_windows"))
            seen = f"{100 * share:.2f} % of the {split} split's windows of {found.get('window_bytes')} bytes"
            lines.append(f"{seen} are in the train split, too ({counts}).")
    return join(tag("p", line, class_="quiet") for line in lines) if lines else None


def _render_steps(data: Record) -> Html | None:
    rows: list[list[object]] = []
    for name, step in get_section(data, "steps").items():
        if not isinstance(step, dict):
            continue
        dropped = get_section(step, "dropped")
        n_dropped = _sum([dropped], *dropped)
        counts = (step.get("documents_in"), step.get("documents_out"), step.get("changed"), n_dropped or 0)
        rows.append([name, *counts, _list_counts(dropped), _list_counts(get_section(step, "removed"))])
    if not rows:
        return None
    header = ["step", "documents in", "out", "changed", "dropped", "reasons", "characters and marks removed"]
    return tag("div", tag("h3", "Cleaning and de-duplication"), table(header, rows))


def _render_sources(data: Record) -> Html | None:
    listed = data.get("sources")
    sources = _get_records(listed) if isinstance(listed, list) else []
    if not sources:
        return None
    columns = ("encoding", "documents", "characters", "n_bytes")
    shown = sources[:_MAX_SOURCES]
    rows = []
    for source in shown:
        skipped, digest = _list_counts(get_section(source, "skipped")), _shorten(source.get("sha256"))
        rows.append([source.get("path"), *(source.get(column) for column in columns), skipped, digest])
    left = len(sources) - len(shown)
    return tag(
        "details",
        tag("summary", f"Sources: {len(sources):,}"),
        table(["path", *columns[:-1], "bytes", "skipped", "SHA-256"], rows),
        tag("p", f"and {left:,} more, listed in manifest.json", class_="quiet") if left else None,
        open=len(sources) <= 12,
    )


def _render_samples(data: Record) -> Html | None:
    listed = data.get("samples")
    if not isinstance(listed, list) or not listed:
        return None
    title = tag("summary", "Places of the train split, as the tokenizer gives them back")
    return tag("details", title, *(tag("pre", sample, class_="sample", dir="auto") for sample in listed))


def _list_counts(counts: Record) -> str:
    """`too short 3, digits 1`."""
    return ", ".join(f"{reason} {n:,}" if isinstance(n, int) else f"{reason} {n}" for reason, n in counts.items())


def _sum(parts: Iterable[Record], *names: str) -> int | None:
    """The sum of the counts under these names; None if no part has one."""
    counts = [part[name] for part in parts for name in names if isinstance(part.get(name), int)]
    return sum(counts) if counts else None


def _get_records(values: Iterable[object]) -> list[Record]:
    return [value for value in values if isinstance(value, dict)]


def _shorten(digest: object) -> str | None:
    return str(digest)[:12] if digest else None
