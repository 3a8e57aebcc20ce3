"""When something that recurs is due: by cron, in a time zone, or every so many seconds.

Moments are whole epoch seconds, and always arguments: nothing here reads a clock.
"""

from pyres.timing.cron import NEVER, Cron
from pyres.timing.every import Every, duration
from pyres.timing.limits import Bounded, Limits, digest

__all__ = ["NEVER", "Bounded", "Cron", "Every", "Limits", "digest", "duration"]
