"""The rows where a classifier is most wrong, kept few while many are scored. Only for who asks to see texts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmkit.datasets.labelled import Inputs
from llmkit.metrics.label_metrics import find_mistakes, guess
from llmkit.tables.labelled import Kind

SHOWN = 20


@dataclass
class Mistakes:
    """The worst rows so far, as the model read them: with its tokenizer's case and what was cut off cut off."""

    kind: Kind
    names: Sequence[str]
    thresholds: NDArray[np.float64]
    tokenizer: PreTrainedTokenizerBase
    _found: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def add(self, labels: NDArray[Any], outputs: NDArray[np.float64], inputs: Inputs, lines: NDArray[np.int64]) -> None:
        """Take the worst of some more rows."""
        guesses = guess(self.kind, outputs, self.thresholds)
        for how, row in find_mistakes(self.kind, labels, outputs, self.thresholds, SHOWN):
            record = {"line": int(lines[row]), "label": self._show(labels[row]), "predicted": self._show(guesses[row])}
            if self.kind != "regression":
                record["probability"] = how
            self._found.append((how, record | self._read(inputs, row)))
        self._found = sorted(self._found, key=lambda found: -found[0])[:SHOWN]

    def worst(self) -> list[dict[str, Any]]:
        """The records, the worst first."""
        return [record for _, record in self._found]

    def _show(self, label: Any) -> str:
        if self.kind == "regression":
            return f"{float(label):.4g}"
        if self.kind == "single":
            return self.names[int(label)]
        return ", ".join(name for name, marked in zip(self.names, label, strict=True) if marked) or "none"

    def _read(self, inputs: Inputs, row: int) -> dict[str, str]:
        first = inputs.read(row)[0]
        texts = (first.ids[: first.n_first], first.ids[first.n_first :])
        text, pair = (self.tokenizer.decode(ids.tolist(), skip_special_tokens=True) for ids in texts)
        return {"text": str(text)} | ({"pair": str(pair)} if pair else {})
