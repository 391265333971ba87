"""Fit a run into `train.max_minutes`: the number of steps and evaluations, and the held-out blocks per evaluation.

The minutes include the complete command, from its start to its report. The plan is made before the first step with
rough costs, and again after 5 % of the steps with measured costs. If the time per step differs from the expectation,
for example because another process started, another 5 % of the steps are measured, up to 20 % of the run. Halfway
through the run, the number of steps is corrected again, because the speed of shared machines changes. Each plan is
recorded with its step, so a resumed run ends with the same weights.

This module only computes; it uses neither a model nor a clock.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

MAX_EVALUATIONS = 10
"""Maximum number of evaluations of a run whose recipe does not set `train.eval_steps`."""
EVALUATION_SHARE = 0.08
"""Share of the time for all evaluations with their samples and checkpoints."""
ONE_EVALUATION_SHARE = 0.02
"""Maximum share of the time for the held-out blocks of one evaluation."""
FINAL_SHARE = 0.06
"""Share of the time for scoring held-out data at the end."""
MIN_BLOCKS = 8
"""Minimum number of held-out blocks per evaluation."""
CALIBRATION_SHARE = 0.05
"""Fraction of the steps after which a run is planned again; repeated as long as the measured costs change."""
MAX_CALIBRATION_SHARE = 0.2
"""Fraction of the steps after which a run is planned again only once, halfway, and the evaluations are fixed."""
LAST_SHARE = 0.5
"""Fraction of the steps after which the number of steps is fixed."""
STEP_TOLERANCE = 0.07
"""Maximum relative difference between a measured time per step and the median of the earlier ones."""
RESERVE = 0.03
"""Fraction of the remaining time kept in reserve: first steps were 2 to 5 % faster than later ones (docs/log.md)."""
OVERRUN_TOLERANCE = 0.01
"""Fraction of the limit by which a run may exceed it without a warning."""
FINISH_SECONDS = 1.0
"""Seconds to write the model and the report."""


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds of the parts of a run on this machine."""

    step: float
    eval_block: float
    """One held-out block in an evaluation."""
    final_score: float
    """All held-out data at the end, in the precision of the final score."""
    sample: float = 0.0
    save: float = 0.0
    finish: float = FINISH_SECONDS
    """Writing the model and the report."""


@dataclass(frozen=True, slots=True)
class LengthRequest:
    """Requirements of recipe and data on the length of a run."""

    seconds: float
    n_held_out: int
    max_eval_samples: int
    eval_steps: int | None
    save_steps: int | None
    keeps_blocks: bool = False
    """Whether evaluations must score `max_eval_samples`, so that they are comparable with those before."""


@dataclass(frozen=True, slots=True)
class RunLength:
    """A length that fits the budget."""

    n_steps: int
    eval_steps: int
    save_steps: int
    max_eval_samples: int
    final_share: float
    """Share of the held-out data that is scored at the end."""


def fit_length(request: LengthRequest, costs: Costs, elapsed: float, n_done: int = 0) -> RunLength:
    """Return the longest run that ends in time, given that `n_done` steps were done `elapsed` seconds after the command
    started.

    The number of held-out blocks is reduced first, then the number of evaluations. Values that the recipe sets are
    kept.
    """
    left = (1 - RESERVE) * max(0.0, request.seconds - elapsed - costs.finish)
    final_share = min(1.0, FINAL_SHARE * left / costs.final_score) if costs.final_score else 1.0
    if request.n_held_out:
        final_share = max(final_share, min(1.0, MIN_BLOCKS / request.n_held_out))
    left -= final_share * costs.final_score
    affordable = int(ONE_EVALUATION_SHARE * left / costs.eval_block) if costs.eval_block else request.n_held_out
    affordable = request.max_eval_samples if request.keeps_blocks else max(MIN_BLOCKS, affordable)
    n_blocks = min(request.n_held_out, request.max_eval_samples, affordable)
    evaluation = n_blocks * costs.eval_block + costs.sample + (costs.save if request.save_steps is None else 0.0)
    step = costs.step + (costs.save / request.save_steps if request.save_steps else 0.0)
    if request.eval_steps is not None:
        n_steps = n_done + max(1, int((left - evaluation) / (step + evaluation / request.eval_steps)))
        eval_steps = request.eval_steps
    else:
        affordable = int(EVALUATION_SHARE * left / evaluation) if evaluation else MAX_EVALUATIONS
        n_evaluations = max(1, min(MAX_EVALUATIONS, affordable))
        n_steps = n_done + max(1, int((left - n_evaluations * evaluation) / step))
        eval_steps = math.ceil(n_steps / n_evaluations)
    return RunLength(n_steps, eval_steps, request.save_steps or eval_steps, max(1, n_blocks), final_share)


def calibration_step(n_steps: int) -> int:
    """Return the number of steps after which a run of `n_steps` is planned again."""
    return max(1, round(CALIBRATION_SHARE * n_steps))


def next_calibration(n_steps: int, step: int, step_seconds: Sequence[float]) -> int | None:
    """Return the next step after which to plan again; None in the second half.

    If the last of `step_seconds` differs from the earlier ones, the next step comes soon, within the first fifth of the
    run; otherwise it is halfway through the run.
    """
    following = step + calibration_step(n_steps)
    *before, last = step_seconds
    agrees = abs(last / statistics.median(before) - 1) <= STEP_TOLERANCE
    if not agrees and following <= MAX_CALIBRATION_SHARE * n_steps:
        return following
    half = round(LAST_SHARE * n_steps)
    return half if step < half else None


def is_last_calibration(n_steps: int, step: int, step_seconds: Sequence[float]) -> bool:
    """Whether the plan made at `step` is the last: costs were measured before, and a fifth of the run is over."""
    return len(step_seconds) > 1 and step > MAX_CALIBRATION_SHARE * n_steps


@dataclass(frozen=True, slots=True)
class PhaseSeconds:
    """Seconds of a run by phase."""

    start: float = 0.0
    """Imports, reading data, building the model, trials."""
    training: float = 0.0
    evaluation: float = 0.0
    samples: float = 0.0
    saving: float = 0.0
    finish: float = 0.0
    """The final evaluation, the saved model and the report."""

    @property
    def total(self) -> float:
        return self.start + self.training + self.evaluation + self.samples + self.saving + self.finish

    def describe(self) -> str:
        """Format the phases: `61.2 s: training 52.1 (85 %), start 4.9, ...`, without phases of less than 0.05 s."""
        parts = {name: getattr(self, name) for name in ("start", "evaluation", "samples", "saving", "finish")}
        shown = [f"{name} {seconds:.1f}" for name, seconds in parts.items() if seconds >= 0.05]
        share = self.training / self.total if self.total else 0.0
        return f"{self.total:.1f} s: " + ", ".join([f"training {self.training:.1f} ({share:.0%})", *shown])

    def describe_overrun(self, max_minutes: float) -> str | None:
        """Return a warning if the run took longer than `train.max_minutes`, else None."""
        limit = 60 * max_minutes
        if self.total <= (1 + OVERRUN_TOLERANCE) * limit:
            return None
        return (
            f"the run took {self.total:.1f} s, longer than train.max_minutes={max_minutes:g} allows ({limit:g} s); "
            f"a run has at least one step, and a machine that slows down delays its end: set a lower "
            f"train.max_minutes if the limit is strict"
        )
