"""What a training log line is made of: losses, counts and time since the last one."""

import time

import torch
from torch import Tensor

from llmkit.core import distributed


class LossWindow:
    """Sums and counts since the last log line, kept on the device so that nothing waits for them."""

    def __init__(self) -> None:
        self._reset()

    def _reset(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}
        self.n_tokens = 0
        self.waited = 0.0
        self.started = time.perf_counter()

    def restore(self, sums: dict[str, float], counts: dict[str, int]) -> None:
        """Go on with the window of a checkpoint; its speed starts anew."""
        self.sums = {name: torch.tensor(value, dtype=torch.float64) for name, value in sums.items()}
        self.counts = dict(counts)

    def copy(self) -> tuple[dict[str, Tensor], dict[str, int], int]:
        """What `put_back` takes; sums are never changed in place."""
        return dict(self.sums), dict(self.counts), self.n_tokens

    def put_back(self, before: tuple[dict[str, Tensor], dict[str, int], int]) -> None:
        """Forget the steps since `copy`."""
        self.sums, self.counts, self.n_tokens = before

    def add_step(self, counts: dict[str, int], n_tokens: int, waited: float) -> None:
        """The labels and tokens of one optimizer step over all ranks, and the seconds it waited for them here."""
        self.n_tokens += n_tokens
        self.waited += waited
        for name, count in counts.items():
            self.counts[name] = self.counts.get(name, 0) + count

    def add_sums(self, sums: dict[str, Tensor]) -> None:
        for name, value in sums.items():
            # MPS has no float64; everywhere else a window's sum should not lose digits.
            wide = torch.float32 if value.device.type == "mps" else torch.float64
            detached = value.detach().to(wide)
            self.sums[name] = self.sums[name].to(detached) + detached if name in self.sums else detached

    def pause(self, seconds: float) -> None:
        """Time that was spent on evaluation and saving does not count against speed."""
        self.started += seconds

    def drain(self) -> dict[str, float]:
        """Mean losses with their sum as `loss`, tokens a second, and the share of time that waited for data, since the
        last call."""
        seconds = time.perf_counter() - self.started
        if distributed.world_size() > 1:
            for value in self.sums.values():
                torch.distributed.all_reduce(value)
        # The seventh digit of an fp32 loss is noise, and would differ with the cut of a batch.
        logged = {name: round(value.item() / max(1, self.counts[name]), 6) for name, value in self.sums.items()}
        logged = {"loss": round(sum(logged.values()), 6)} | logged
        logged |= {"tokens_per_second": self.n_tokens / seconds, "data_wait": self.waited / seconds}
        self._reset()
        return logged
