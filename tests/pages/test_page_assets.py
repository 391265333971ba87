"""Pages carry their style and script with them."""

import re

from llmkit.pages.page_assets import SCRIPT, STYLE


def test_nothing_is_fetched_from_anywhere() -> None:
    for asset in (SCRIPT, STYLE):
        assert not re.search(r"https?:|@import|url\(|fetch\(|XMLHttpRequest|import\(", asset)


def test_neither_can_end_the_tag_it_stands_in() -> None:
    assert "</" not in SCRIPT
    assert "</" not in STYLE
