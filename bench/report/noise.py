"""The noise levels of a run's steps as text: a second header row, or columns in place of steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bench.runs.results import Results
from bench.steps import number_of

LOG_SNR = "log-SNR"


def log_snr_text(level: float) -> str:
    """A log-SNR in two decimals; ``-inf`` is pure noise."""
    # Adding zero takes the sign off a rounded zero.
    return f"{round(level, 2) + 0.0:.2f}"


def log_snr_by_step(results: Results) -> dict[int, str]:
    """Probed step -> its log-SNR; empty for a run that did not record noise levels."""
    return dict(zip(results.steps, map(log_snr_text, results.log_snr or ()), strict=False))


def noise_header(results: Results, columns: Sequence[str]) -> dict[str, str]:
    """The second header row of a table with columns such as ``step 5``: their log-SNR.

    Empty where no column is a step, or the run did not record noise levels.
    """
    titles = {_title(step): level for step, level in log_snr_by_step(results).items()}
    if not any(column in titles for column in columns):
        return {}
    first, *others = columns
    return {first: LOG_SNR} | {column: titles.get(column, "") for column in others}


def by_noise(results: Results, rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """Rows whose columns and entries name noise levels in place of steps."""
    levels = log_snr_by_step(results)
    titles = {_title(step): f"{LOG_SNR} {level}" for step, level in levels.items()}
    numbers = {str(number_of(step)): level for step, level in levels.items()}
    return [
        {
            LOG_SNR if name == "step" else titles.get(name, name): (
                numbers.get(value, value) if name == "step" else value
            )
            for name, value in row.items()
        }
        for row in rows
    ]


def _title(step: int) -> str:
    """The name of a step's column in the tables of layers."""
    return f"step {number_of(step)}"
