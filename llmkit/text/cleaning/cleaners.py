"""Clean documents in named steps, part by part, counting what each step changed, removed or dropped.

A step takes the texts of one document's parts and yields them cleaned. A step whose pattern may span two parts
holds back the end of a part until the next one arrives. Every substitution is guarded by a cheap test, so a step
costs almost nothing on a text that does not need it.

STEPS has one line per step, in the order in which they run. Mojibake is repaired before control characters are
removed because mojibake contains some. Entities are decoded first, so that the later steps see their characters.

If a step of REMOVING_STEPS removes more than a third of a document's characters, the document is counted in the step's
`notes`, with an example. Independent of files and formats.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import Any

from llmkit.config.prepare import Clean, Quality
from llmkit.text.cleaning.characters import (
    UNICODE_FORMS,
    fix_line_ends,
    refuse_controls,
    remove_controls,
    repair_mojibake,
    simplify_chinese,
    strip_punctuation,
)
from llmkit.text.cleaning.gutenberg import strip_gutenberg
from llmkit.text.cleaning.languages import TOO_SHORT, check_languages, find_language, read_sample
from llmkit.text.cleaning.marks import (
    OPTIONS,
    VERBS,
    count_marks,
    decode_entities,
    remove_soft_hyphens,
    remove_subtitle_times,
    strip_front_matter,
)
from llmkit.text.cleaning.quality import find_broken_rule
from llmkit.text.cleaning.whitespace import normalize_whitespace
from llmkit.text.cleaning.wrapping import complete_paragraphs, join_hyphens, join_lines, join_lines_and_hyphens
from llmkit.text.documents import (
    LARGE_REMOVAL,
    Document,
    StepCounts,
    emit_document,
    group_documents,
    measure,
    replay_texts,
)

Step = Callable[[Iterable[str], StepCounts], Iterator[str]]

MARKS = "marks kept as text"
LANGUAGES = "languages"
_NO_RULES = Quality()
MIN_MARKS = 10
"""Minimum number of marks of one kind for a note."""


def clean_documents(
    documents: Iterable[Document], clean: Clean, strict: bool, counts: dict[str, StepCounts]
) -> Iterator[Document]:
    """Apply all steps that `clean` enables; `counts` gets one entry per step, in order, before the first document.

    With `strict` a control character raises a DataError that names the document. Cleaned texts contain no lone
    surrogates, so they can always be encoded.

    Raises:
        UsageError: an unknown language code.
        EnvironmentFault: a package that a step needs is missing.
    """
    steps = [(counts.setdefault(name, StepCounts()), name, step) for name, wanted, step in STEPS if wanted(clean)]
    if clean.languages:
        check_languages(clean.languages)
        counts.setdefault(LANGUAGES, StepCounts())
    if clean.quality != _NO_RULES:
        counts.setdefault("quality", StepCounts())
    counts.setdefault(MARKS, StepCounts())
    counts.setdefault("empty", StepCounts())
    kinds = frozenset(kind for kind, option in OPTIONS.items() if not getattr(clean, option))

    def run() -> Iterator[Document]:  # an inner generator, so that the call itself fills `counts`
        for first, texts in group_documents(documents):
            cleaned: Iterator[str] = refuse_controls(texts, first) if strict else texts
            for count, name, step in steps:
                count.documents_in += 1
                count.documents_out += 1
                cleaned = _watch(step, cleaned, count, first) if name in REMOVING_STEPS else step(cleaned, count)
            yield from _select(cleaned, clean, counts, kinds, first)

    return run()


def _select(
    texts: Iterable[str], clean: Clean, counts: dict[str, StepCounts], kinds: frozenset[str], first: Document
) -> Iterator[Document]:
    """Yield the document if it is in a wanted language, passes the quality rules, and is not empty."""
    if clean.languages:
        sample, texts = read_sample(texts)
        if not _is_wanted(sample, clean.languages, counts[LANGUAGES], first):
            return
    with ExitStack() as stack:
        if clean.quality != _NO_RULES:
            count = counts["quality"]
            count.documents_in += 1
            replay = stack.enter_context(replay_texts(texts))
            if broken_rule := find_broken_rule(replay(), clean.quality):
                count.dropped[broken_rule] += 1
                return
            count.documents_out += 1
            texts = replay()
        yield from _drop_empty(count_marks(texts, counts[MARKS], kinds, first.source), first, counts["empty"])


def _is_wanted(sample: str, languages: Sequence[str], count: StepCounts, first: Document) -> bool:
    count.documents_in += 1
    language = find_language(sample, languages)
    example = f"{sample.strip()[:60]!r} in {first.source}"
    is_wanted = language in languages or language == TOO_SHORT
    count.documents_out += is_wanted
    if is_wanted:
        count.note(language, example)
    else:
        count.dropped[language] += 1
        count.examples.setdefault(language, example)
    return is_wanted


def describe_notes(steps: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return lines that point out unusual counts to the user; `steps` are the counts as stored in JSON."""
    lines: list[str] = []
    for name, step in steps.items():
        examples = step.get("examples", {})
        if name == LANGUAGES:
            for language, n in step["dropped"].items():
                what = f"dropped, because {language!r} is not in prepare.clean.languages"
                lines.append(f"{_documents(n)} {what}: {examples[language]}")
        for kind, n in step.get("notes", {}).items():
            if kind == LARGE_REMOVAL:
                what = f"cleaning step {name!r} removed more than a third of the text of {_documents(n)}"
                lines.append(f"{what}: {examples[kind]}")
            elif name == LANGUAGES and kind == TOO_SHORT:
                lines.append(f"{_documents(n)} kept, because too short to judge the language: {examples[kind]}")
            elif name == MARKS and n >= MIN_MARKS:
                option = f"prepare.clean.{OPTIONS[kind]}=true {VERBS.get(kind, 'removes them')}"
                lines.append(f"{n:,} {kind} stay in the text ({option}): {examples[kind]}")
    return lines


def _documents(n: int) -> str:
    return "1 document" if n == 1 else f"{n:,} documents"


def _watch(step: Step, texts: Iterable[str], count: StepCounts, first: Document) -> Iterator[str]:
    """Run the step, and note a document that loses more than a third of its characters."""
    sizes = Counter[str]()
    yield from measure(step(measure(texts, sizes, "in"), count), sizes, "out")
    count.note_removal(sizes["in"], sizes["out"], first)


def _drop_empty(texts: Iterable[str], first: Document, count: StepCounts) -> Iterator[Document]:
    """Yield the document unless all of its parts are white space."""
    count.documents_in += 1
    held: list[str] = []
    stream = iter(texts)
    for text in stream:
        held.append(text)
        if text and not text.isspace():
            count.documents_out += 1
            yield from emit_document(chain(held, stream), first)
            return
    count.dropped["nothing left after cleaning"] += 1


def _each_part(clean_text: Callable[[str, Counter[str]], str], *, paragraphs: bool = False) -> Step:
    """Return a step that cleans each part separately; with `paragraphs`, parts are first cut at blank lines."""

    def step(texts: Iterable[str], count: StepCounts) -> Iterator[str]:
        changed = False
        for text in complete_paragraphs(texts) if paragraphs else texts:
            cleaned = clean_text(text, count.removed)
            changed = changed or (cleaned is not text and cleaned != text)
            yield cleaned
        count.changed += changed

    return step


def _spelling(normalize: Callable[[str], str]) -> Step:
    return _each_part(lambda text, removed: normalize(text))


def _unicode_step(form: str) -> tuple[str, Callable[[Clean], bool], Step]:
    return f"unicode {form}", lambda clean: clean.unicode == form, _spelling(UNICODE_FORMS[form])


STEPS: tuple[tuple[str, Callable[[Clean], bool], Step], ...] = (
    ("html entities", lambda clean: clean.html_entities, decode_entities),
    ("line ends", lambda clean: True, _spelling(fix_line_ends)),
    ("mojibake", lambda clean: clean.mojibake, _each_part(repair_mojibake)),
    ("controls", lambda clean: True, _each_part(remove_controls)),
    ("front matter", lambda clean: clean.front_matter, strip_front_matter),
    ("soft hyphens", lambda clean: clean.soft_hyphens, _each_part(remove_soft_hyphens, paragraphs=True)),
    *map(_unicode_step, UNICODE_FORMS),
    ("gutenberg", lambda clean: clean.gutenberg, strip_gutenberg),
    ("subtitle times", lambda clean: clean.subtitle_times, _each_part(remove_subtitle_times, paragraphs=True)),
    ("joined lines", lambda clean: clean.join_lines and not clean.join_hyphens, join_lines),
    ("joined lines and hyphens", lambda clean: clean.join_lines and clean.join_hyphens, join_lines_and_hyphens),
    ("joined hyphens", lambda clean: clean.join_hyphens and not clean.join_lines, join_hyphens),
    ("whitespace", lambda clean: clean.whitespace, normalize_whitespace),
    ("lowercase", lambda clean: clean.lowercase, _spelling(str.lower)),
    ("punctuation", lambda clean: clean.strip_punctuation, strip_punctuation),
    ("simplified", lambda clean: clean.simplify_chinese, _spelling(simplify_chinese)),
)
COUNTED_IN_CHARACTERS = frozenset({"front matter", "gutenberg"})
"""Steps whose `StepCounts.removed` counts characters; for other steps, each key of `removed` names what it counts."""
REMOVING_STEPS = frozenset({"controls", "front matter", "soft hyphens", "gutenberg", "subtitle times"})
"""Steps that should remove a small part of a text, so that removing more than a third of it is worth a note. The other
steps rewrite the text, or remove white space or punctuation.
"""
