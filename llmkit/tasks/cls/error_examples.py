"""The rows where a classifier is most wrong, kept few while many are scored. Only for who asks to see texts."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from llmkit.datasets.labelled import Inputs
from llmkit.tasks.cls.label_types import LabelType

SHOWN = 20


@dataclass
class ErrorExamples:
    """The worst rows so far, as the model read them: with its tokenizer's case and what was cut off cut off."""

    label_type: LabelType
    names: Sequence[str]
    thresholds: NDArray[np.float64]
    tokenizer: PreTrainedTokenizerBase
    _found: list[tuple[float, dict[str, Any]]] = field(default_factory=list)

    def add(self, labels: NDArray[Any], outputs: NDArray[np.float64], inputs: Inputs, lines: NDArray[np.int64]) -> None:
        """Take the worst of some more rows."""
        guesses = self.label_type.predict(outputs, self.thresholds)
        for how, row in self.label_type.find_mistakes(labels, outputs, self.thresholds, SHOWN):
            true, predicted = (self.label_type.show(each[row], self.names) for each in (labels, guesses))
            record: dict[str, Any] = {"line": int(lines[row]), "label": true, "predicted": predicted}
            if self.label_type.has_names:
                record["probability"] = how
            self._found.append((how, record | self._read(inputs, row)))
        self._found = sorted(self._found, key=lambda found: -found[0])[:SHOWN]

    def worst(self) -> list[dict[str, Any]]:
        """The records, the worst first."""
        return [record for _, record in self._found]

    def _read(self, inputs: Inputs, row: int) -> dict[str, str]:
        first = inputs.read(row)[0]
        texts = (first.ids[: first.n_first], first.ids[first.n_first :])
        text, pair = (self.tokenizer.decode(ids.tolist(), skip_special_tokens=True) for ids in texts)
        return {"text": str(text)} | ({"pair": str(pair)} if pair else {})
