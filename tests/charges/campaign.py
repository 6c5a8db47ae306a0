"""How long the random tests run: a little in `make test`, longer when KINPAY_CAMPAIGN multiplies it."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

TIMES = max(1, int(os.environ.get("KINPAY_CAMPAIGN", "1")))


def campaign(examples: int, *, steps: int = 50, **more: Any) -> settings:
    """Settings for `examples` examples times KINPAY_CAMPAIGN, without a deadline: the machine may be busy."""
    return settings(
        max_examples=examples * TIMES,
        stateful_step_count=steps,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
        **more,
    )
