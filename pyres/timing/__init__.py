"""When recurring jobs are due: by cron in a time zone, or at intervals.

Moments are whole epoch seconds, and are passed as arguments: nothing here reads a clock.
"""

from pyres.timing.cron import NEVER, Cron
from pyres.timing.every import Every, duration
from pyres.timing.limits import Bounded, Limits, digest

__all__ = ["NEVER", "Bounded", "Cron", "Every", "Limits", "digest", "duration"]
