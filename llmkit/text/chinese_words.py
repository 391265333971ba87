"""Where Chinese words begin, by jieba's dictionary; Chinese writes no space between them.

Only runs of Chinese characters are looked at; everything else has its words from the tokenizer.

Knows nothing of tokens.
"""

import importlib.util
import logging
import re
from importlib.metadata import version
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from llmkit.core.errors import EnvironmentFault

_CHINESE = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+")


def choose_word_cutter(wanted: Literal["auto", "jieba", "characters"]) -> str:
    """What cuts Chinese into words here: `characters`, or `jieba` with its version, as manifests name it.

    Raises:
        EnvironmentFault: jieba is asked for and not installed.
    """
    installed = importlib.util.find_spec("jieba") is not None
    if wanted == "jieba" and not installed:
        hint = "pip install 'llmkit[chinese]', or set prepare.chinese_words to characters"
        raise EnvironmentFault("jieba is not installed", where="prepare.chinese_words", hint=hint)
    return f"jieba {version('jieba')}" if installed and wanted != "characters" else "characters"


def find_chinese(text: str) -> NDArray[np.bool_]:
    """For each character, whether it is Chinese."""
    found = np.zeros(len(text), bool)
    for run in _CHINESE.finditer(text):
        found[run.start() : run.end()] = True
    return found


def find_word_interiors(text: str) -> NDArray[np.bool_]:
    """For each character, whether it is Chinese and goes on with the word of the character before it."""
    inside = np.zeros(len(text), bool)
    runs = list(_CHINESE.finditer(text))
    if not runs:
        return inside
    import jieba  # half a second and 50 MB of dictionary, only where there is Chinese

    jieba.setLogLevel(logging.ERROR)
    for run in runs:
        inside[run.start() : run.end()] = True
        start = run.start()
        for word in jieba.cut(run.group()):
            inside[start] = False
            start += len(word)
    return inside
