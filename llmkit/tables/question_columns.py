"""Choose the columns of questions, contexts and answers.

Names that the user gives have priority over well-known names, and these over the contents of the cells: most questions
end with a question mark, the context is the longest text, and an answer is a part of its context.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from llmkit.core.errors import DataError
from llmkit.text.records.fields import list_columns, missing_column_error

QUESTION_NAMES = (
    *("question", "query", "questions", "question_text", "query_text", "q"),
    *("问题", "問題", "提问", "提問", "疑问", "质问", "質問", "질문", "frage", "pregunta", "вопрос"),
)
CONTEXT_NAMES = (
    *("context", "passage", "paragraph", "document", "context_text", "passage_text", "text", "article", "story"),
    *("content", "body", "reference", "source", "上下文", "段落", "文章", "正文", "原文", "内容", "內容", "文本"),
    *("本文", "문맥", "본문", "kontext", "contexto", "contexte", "контекст"),
)
ANSWER_NAMES = (
    *("answers", "answer", "answer_text", "gold_answers", "a", "label", "labels", "target", "span"),
    *("答案", "回答", "解答", "정답", "답변", "antwort", "antworten", "respuesta", "réponse", "ответ"),
)
START_NAMES = (
    *("answer_start", "answers_start", "answer_starts", "start", "start_char", "char_start", "answer_offset"),
    *("start_position", "答案位置", "答案起始", "起始位置"),
)
IMPOSSIBLE_NAMES = ("is_impossible", "impossible", "unanswerable", "is_unanswerable")
ID_NAMES = ("id", "qid", "question_id", "query_id", "guid", "uid", "编号", "編號")
ARTICLE_NAMES = ("title", "document_title", "article_title", "标题", "標題")
_MARKS = ("?", "？", "؟", "\u037e", "吗", "呢")
_MIN_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class QuestionColumns:
    """Names of columns; None for a column that the table does not have."""

    question: str
    context: str
    answers: str | None = None
    answer_start: str | None = None
    is_impossible: str | None = None
    id: str | None = None
    article: str | None = None

    def describe(self) -> str:
        """Format as `question 'q', context 'passage', answers 'answer'`."""
        shown = ((each.name, getattr(self, each.name)) for each in fields(self)[:4])
        return ", ".join(f"{name} {column!r}" for name, column in shown if column is not None)


def choose_question_columns(
    columns: Sequence[str], sample: Sequence[Mapping[str, object]], given: Mapping[str, str | None], *,
    need_answers: bool, where: str,
) -> QuestionColumns:  # fmt: skip
    """Return the columns to read; `given` maps roles, such as `question`, to the columns that the user named.

    Raises:
        DataError: a given column does not exist, or a role has no column; the error lists the columns.
    """
    named = {role: name for role, name in given.items() if name}
    for name in named.values():
        if name not in columns:
            raise missing_column_error(name, columns, where)
    if duplicate := next((name for name in named.values() if list(named.values()).count(name) > 1), None):
        what = f"column {duplicate!r} is given twice"
        raise DataError(what, where=where, hint="question, context and answers must be different columns")
    folded = {column.strip().casefold(): column for column in reversed(columns)}
    roles = dict(named)
    for role, names in (
        ("question", QUESTION_NAMES), ("context", CONTEXT_NAMES), ("answers", ANSWER_NAMES),
        ("answer_start", START_NAMES), ("is_impossible", IMPOSSIBLE_NAMES), ("id", ID_NAMES),
        ("article", ARTICLE_NAMES),
    ):  # fmt: skip
        free = (folded[name] for name in names if name in folded and folded[name] not in roles.values())
        if role not in roles and (found := next(free, None)) is not None:
            roles[role] = found
    _add_by_content(roles, columns, sample, need_answers=need_answers)
    for role in ("question", "context", *(("answers",) if need_answers else ())):
        if role not in roles:
            examples = ", ".join({"question": QUESTION_NAMES, "context": CONTEXT_NAMES}.get(role, ANSWER_NAMES)[:3])
            what = f"no column holds the {role}: none has a name such as {examples}; found: {list_columns(columns)}"
            raise DataError(what, where=where, hint=f"name the column: --{role.removesuffix('s')} NAME")
    return QuestionColumns(**roles)


def _add_by_content(
    roles: dict[str, str], columns: Sequence[str], sample: Sequence[Mapping[str, object]], *, need_answers: bool
) -> None:
    """Add the roles that no name decides, in place."""

    def share(column: str, test: object) -> float:
        cells = [row for row in sample if isinstance(row.get(column), str) and str(row[column]).strip()]
        return sum(map(test, cells)) / max(1, len(cells)) if callable(test) else 0.0

    def free() -> list[str]:
        return [column for column in columns if column not in roles.values()]

    if "question" not in roles:
        marks = {name: share(name, lambda row, name=name: str(row[name]).rstrip().endswith(_MARKS)) for name in free()}
        best = max(marks, key=lambda name: marks[name], default=None)
        if best is not None and marks[best] > _MIN_SHARE:
            roles["question"] = best
    if "context" not in roles and "question" in roles:
        lengths = {name: sum(len(str(row.get(name) or "")) for row in sample) for name in free()}
        best = max(lengths, key=lambda name: lengths[name], default=None)
        asked = sum(len(str(row.get(roles["question"]) or "")) for row in sample)
        if best is not None and lengths[best] > 2 * asked:
            roles["context"] = best
    if need_answers and "answers" not in roles and "context" in roles:
        context = roles["context"]
        inside = {
            name: share(name, lambda row, name=name: str(row[name]).strip() in str(row.get(context))) for name in free()
        }
        best = max(inside, key=lambda name: inside[name], default=None)
        if best is not None and inside[best] > _MIN_SHARE:
            roles["answers"] = best
