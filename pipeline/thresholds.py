"""What the alerts compare with: most of it settings."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final

LEAST_DAYS: Final = 7
"""Fewer loaded days than this are no baseline."""

MOST: Final = 20
"""Findings that one alert lists; the others are counted."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """The settings MKA1_USAGE_ALERT_*, and how far back a day may still be missed."""

    late_minutes: int
    baseline_days: int
    spike_times: float
    spike_operations: int
    spike_tokens: int
    spike_cost: Decimal
    failed_percent: float
    failed_responses: int
    zero_usual: int
    watched_days: int
