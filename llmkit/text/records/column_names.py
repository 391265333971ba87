"""Well-known names of columns. They decide which column holds the text or the label, and whether a first row is a
header."""

TEXT_NAMES = (
    *("text", "content", "body", "document", "article", "story", "sentence"),
    *("正文", "内容", "內容", "文本", "文章", "本文", "テキスト", "본문", "텍스트"),
    *("texte", "texto", "testo", "tekst", "текст", "نص", "النص"),
)
"""Columns of documents, in order of preference."""
CHAT_NAMES = ("messages", "conversations", "conversation", "dialog", "dialogue", "turns", "chat")
PARAGRAPH_NAMES = ("paragraphs", "lines", "sentences", "chapters", "sections")
"""Columns with a list of strings, which are joined to one text."""
INSTRUCTION_NAMES = (
    *("system", "instruction", "input", "prompt", "question", "context", "query"),
    *("output", "response", "completion", "answer", "chosen"),
)
"""Columns of instruction records, in the order in which they are read."""

LABELLED_TEXT_NAMES = (
    *("text", "sentence", "sentence1", "premise", "question", "question1", "review", "content", "body", "message"),
    *("tweet", "utterance", "query", "text_a", "text1", "sentence_a", "comment", "document", "article", "headline"),
    *("文本", "内容", "內容", "正文", "句子", "句子1", "评论", "評論", "文章", "问题"),
    *("description", "title", "标题", "標題"),
)
"""Columns of texts with labels, in order of preference."""
PAIR_NAMES = (
    *(("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("question", "sentence")),
    *(("question", "passage"), ("question", "answer"), ("query", "passage"), ("query", "document")),
    *(("text_a", "text_b"), ("text1", "text2"), ("text", "text2"), ("text", "text_b"), ("text", "pair")),
    *(("sentence_a", "sentence_b"), ("句子1", "句子2"), ("文本1", "文本2"), ("问题1", "问题2"), ("前提", "假设")),
    ("问题", "答案"),
)
LABEL_NAMES = (
    *("label", "labels", "class", "category", "intent", "target", "sentiment", "score", "rating", "stars", "y"),
    *("class index", "coarse_label", "标签", "標籤", "类别", "類別", "分类", "分類", "情感", "意图", "意圖", "得分"),
)
ID_NAMES = ("id", "idx", "index", "guid", "uid", "uuid", "unnamed: 0", "编号", "編號", "序号", "序號")
OTHER_NAMES = (
    *("name", "title", "author", "date", "year", "time", "timestamp", "url", "link", "source", "lang", "language"),
    *("topic", "type", "tags", "user", "username", "email", "country", "city", "price", "作者", "日期", "来源", "來源"),
)
KNOWN_NAMES = frozenset(
    (*TEXT_NAMES, *INSTRUCTION_NAMES, *LABELLED_TEXT_NAMES, *LABEL_NAMES, *ID_NAMES, *OTHER_NAMES, *sum(PAIR_NAMES, ()))
)
"""Words that mark a first row as a header."""
