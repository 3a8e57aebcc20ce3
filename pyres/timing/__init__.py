"""When something that recurs is due: by cron, in a time zone, or every so many seconds.

Moments are whole epoch seconds, and always arguments: nothing here reads a clock.
"""

from pyres.timing.cron import Cron
from pyres.timing.every import Every, duration

__all__ = ["Cron", "Every", "duration"]
