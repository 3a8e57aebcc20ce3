"""Rate limit for wrong passwords: each address waits longer after each wrong one."""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from resweb.auth import BasicAuth

logger = logging.getLogger(__name__)

#: Wrong passwords of an address after which it has to wait.
FREE_GUESSES = 5

#: The longest wait, and the time without a wrong password after which an address is forgotten.
MAX_WAIT_SECONDS, FORGET_SECONDS = 60, 900

#: Addresses remembered; above this the oldest are forgotten.
MAX_ADDRESSES = 10_000

#: Requests that may check a password or wait for the check; the server has eight threads.
MAX_CHECKS = 2


class Verdict(NamedTuple):
    """Whether a request is authenticated; if not, the seconds until a password is checked again."""

    admitted: bool
    wait: int = 0


class _Address:
    """The wrong passwords of one address: how many, when, and until when it has to wait."""

    def __init__(self) -> None:
        self.wrong = 0
        self.unchecked = 0
        self.last = self.until = 0.0


class AuthThrottle:
    """A BasicAuth that counts wrong passwords by address, in memory, and logs them.

    No request waits in here: one that comes too early gets the seconds to wait. A header that was
    accepted before is accepted from any address at any time.
    """

    def __init__(self, auth: BasicAuth, clock: Callable[[], float] = time.monotonic) -> None:
        self._auth = auth
        self._clock = clock
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self._lock = threading.Lock()
        # A check takes 16 MB and 50 ms of CPU time: one at a time.
        self._checking = threading.Lock()
        self._checks = threading.Semaphore(MAX_CHECKS)

    def admit(self, header: str, address: str) -> Verdict:
        """The verdict for an Authorization header from this address."""
        if self._auth.is_cached(header):
            return Verdict(True)
        if not header:
            return Verdict(False)
        network = _network(address)
        if wait := self._wait(network):
            return Verdict(False, wait)
        if not self._checks.acquire(blocking=False):
            return Verdict(False, 1)
        try:
            with self._checking:
                return self._check(header, network)
        finally:
            self._checks.release()

    def _check(self, header: str, network: str) -> Verdict:
        # Another request of this address may have had a wrong password meanwhile.
        if wait := self._wait(network):
            return Verdict(False, wait)
        if self._auth.accepts(header):
            with self._lock:
                self._addresses.pop(network, None)
            return Verdict(True)
        self._note_wrong(network)
        return Verdict(False)

    def _wait(self, network: str) -> int:
        with self._lock:
            record = self._addresses.get(network)
            remaining = record.until - self._clock() if record else 0.0
            if record is None or remaining <= 0:
                return 0
            record.unchecked += 1
            return math.ceil(remaining)

    def _note_wrong(self, network: str) -> None:
        now = self._clock()
        with self._lock:
            record = self._addresses.get(network)
            if record is None or now - record.last > FORGET_SECONDS:
                record = _Address()
            self._addresses[network] = record
            self._addresses.move_to_end(network)
            if len(self._addresses) > MAX_ADDRESSES:
                self._addresses.popitem(last=False)
            record.wrong, record.last = record.wrong + 1, now
            wait = _seconds(record.wrong)
            record.until = now + wait
            unchecked, record.unchecked = record.unchecked, 0
        logger.warning(
            "Refused a wrong password from %s: number %d, the next one is checked after %d s "
            "(%d requests were refused unchecked before)",
            network,
            record.wrong,
            wait,
            unchecked,
        )


def _seconds(wrong: int) -> int:
    """How long an address waits after this many wrong passwords."""
    if wrong < FREE_GUESSES:
        return 0
    return int(min(MAX_WAIT_SECONDS, 2 ** min(wrong - FREE_GUESSES, 30)))


def _network(address: str) -> str:
    """The address; for IPv6 its /64 network, since one host can use all addresses of it."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))
