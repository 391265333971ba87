"""The report's section on data: sources, dropped text with reasons, and the sizes of the splits.

Reads the manifest of the prepared folder, which the run's manifest stores under `data`. Missing entries are left out.
"""

from collections.abc import Iterable

from llmkit.pages.blocks import Block, Facts, Fold, Paragraph, Preformatted, Section, Table, show_value
from llmkit.training.run_record import Record, get_number, get_section

SPLIT_COLUMNS = ("rows", "documents", "characters", "bytes", "tokens", "words", "unknown_tokens")
_MAX_SOURCES = 200
_MAX_OPEN_SOURCES = 12


def make_data(data: Record) -> Section:
    """Return the section Data of the report."""
    if not data:
        return Section("Data", [Paragraph("The run's manifest does not describe its data.")])
    parts = (_make_totals, _make_splits, _make_overlap, _make_steps, _make_sources, _make_samples)
    return Section("Data", [block for make in parts for block in make(data)])


def _make_totals(data: Record) -> list[Block]:
    splits = _get_records(get_section(data, "splits").values())
    tokenizer = get_section(data, "tokenizer")
    n_bytes, n_tokens = _sum(splits, "bytes"), _sum(splits, "tokens")
    ratio = get_number(data, "bytes_per_token") or (n_bytes / n_tokens if n_bytes and n_tokens else None)
    facts: list[tuple[str, object]] = [(name, _sum(splits, name)) for name in SPLIT_COLUMNS[:5]]
    facts += [("bytes per token", None if ratio is None else f"{ratio:.3f}"), ("tokenizer", tokenizer.get("kind"))]
    facts += [("vocabulary", tokenizer.get("vocab_size")), ("fingerprint", _shorten(tokenizer.get("fingerprint")))]
    return [Facts([(name, value) for name, value in facts if value is not None])]


def _make_splits(data: Record) -> list[Block]:
    splits = {name: part for name, part in get_section(data, "splits").items() if isinstance(part, dict)}
    if not splits:
        return []
    columns = [column for column in SPLIT_COLUMNS if any(column in part for part in splits.values())]
    rows = [[name, *(part.get(column) for column in columns)] for name, part in splits.items()]
    total = ["all", *(_sum(splits.values(), column) for column in columns)]
    header = ["split", *(column.replace("_", " ") for column in columns)]
    by = data.get("split_by")
    return [Table(header, rows, f"Splits, by {by}" if by else "Splits", total)]


def _make_overlap(data: Record) -> list[Block]:
    """Return the amount of held-out text that is also in the train split; it makes held-out metrics optimistic."""
    lines: list[Block] = []
    for split, found in get_section(data, "overlap").items():
        share = get_number(found, "share") if isinstance(found, dict) else None
        if share is not None:
            counts = " of ".join(show_value(found.get(key)) for key in ("n_found", "n_windows"))
            seen = f"{share:.2%} of the {split} split's windows of {found.get('window_bytes')} bytes"
            lines.append(Paragraph(f"{seen} are in the train split too ({counts})."))
    return lines


def _make_steps(data: Record) -> list[Block]:
    """Return a table of the steps that changed or dropped something, and the names of the other steps."""
    rows: list[list[object]] = []
    idle: list[str] = []
    for name, step in get_section(data, "steps").items():
        if not isinstance(step, dict):
            continue
        dropped, removed = get_section(step, "dropped"), get_section(step, "removed")
        if not (step.get("changed") or dropped or removed):
            idle.append(name)
            continue
        counts = (step.get("documents_in"), step.get("documents_out"), step.get("changed"))
        rows.append([name, *counts, _sum([dropped], *dropped) or 0, _list_counts(dropped), _list_counts(removed)])
    header = ["step", "documents in", "out", "changed", "dropped", "reasons", "characters and marks removed"]
    blocks: list[Block] = [Table(header, rows, "Cleaning and de-duplication")] if rows else []
    return [*blocks, Paragraph(f"Steps that changed nothing: {', '.join(idle)}.")] if idle else blocks


def _make_sources(data: Record) -> list[Block]:
    listed = data.get("sources")
    sources = _get_records(listed) if isinstance(listed, list) else []
    if not sources:
        return []
    columns = ("encoding", "documents", "characters", "n_bytes")
    rows = [
        [source.get(column) for column in ("path", *columns)]
        + [_list_counts(get_section(source, "skipped")), _shorten(source.get("sha256"))]
        for source in sources[:_MAX_SOURCES]
    ]
    blocks: list[Block] = [Table(["path", *columns[:-1], "bytes", "skipped", "SHA-256"], rows)]
    if len(sources) > _MAX_SOURCES:
        blocks.append(Paragraph(f"and {len(sources) - _MAX_SOURCES:,} more, listed in manifest.json"))
    return [Fold(f"Sources: {len(sources):,}", blocks, is_open=len(sources) <= _MAX_OPEN_SOURCES)]


def _make_samples(data: Record) -> list[Block]:
    listed = data.get("samples")
    if not isinstance(listed, list) or not listed:
        return []
    return [Fold("Samples of the train split, decoded by the tokenizer", [Preformatted(str(each)) for each in listed])]


def _list_counts(counts: Record) -> str:
    """Format counts: `too short 3, digits 1`."""
    return ", ".join(f"{reason} {n:,}" if isinstance(n, int) else f"{reason} {n}" for reason, n in counts.items())


def _sum(parts: Iterable[Record], *names: str) -> int | None:
    """Return the sum of the counts with these names; None if no part has one."""
    counts = [part[name] for part in parts for name in names if isinstance(part.get(name), int)]
    return sum(counts) if counts else None


def _get_records(values: Iterable[object]) -> list[Record]:
    return [value for value in values if isinstance(value, dict)]


def _shorten(digest: object) -> str | None:
    return str(digest)[:12] if digest else None
