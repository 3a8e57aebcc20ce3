"""Slows those who guess the password: each address waits longer after each wrong one."""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

from resweb.auth import Door

logger = logging.getLogger(__name__)

#: Wrong passwords of an address after which it has to wait.
FREE_GUESSES = 5

#: The longest wait; and seconds without a wrong password after which an address starts anew.
MAX_WAIT_SECONDS, FORGET_SECONDS = 60, 900

#: Addresses remembered; beyond these the oldest are forgotten.
MAX_ADDRESSES = 10_000

#: Requests that may check a password or wait for the check, of the server's eight threads.
MAX_CHECKS = 2


class Verdict(NamedTuple):
    """Whether a request comes in; if not, the seconds until its password will be looked at."""

    admitted: bool
    wait: int = 0


class _Address:
    """What is remembered of one address."""

    def __init__(self) -> None:
        self.wrong = 0
        self.unchecked = 0
        self.last = self.until = 0.0


class Guesses:
    """A door that counts wrong passwords by address, in memory, and logs them.

    Nobody waits in here: who may not try yet is told when. A password that was right before is let
    in from any address at any time.
    """

    def __init__(self, door: Door, clock: Callable[[], float] = time.monotonic) -> None:
        self._door = door
        self._clock = clock
        self._addresses: OrderedDict[str, _Address] = OrderedDict()
        self._lock = threading.Lock()
        # A check takes 16 MB and 50 ms of a core: one at a time.
        self._checking = threading.Lock()
        self._places = threading.Semaphore(MAX_CHECKS)

    def admit(self, header: str, address: str) -> Verdict:
        """The verdict on an Authorization header from this address."""
        if self._door.remembers(header):
            return Verdict(True)
        if not header:
            return Verdict(False)
        network = _network(address)
        if wait := self._wait(network):
            return Verdict(False, wait)
        if not self._places.acquire(blocking=False):
            return Verdict(False, 1)
        try:
            with self._checking:
                return self._check(header, network)
        finally:
            self._places.release()

    def _check(self, header: str, network: str) -> Verdict:
        # Another request of this address may have been checked meanwhile.
        if wait := self._wait(network):
            return Verdict(False, wait)
        if self._door.opens(header):
            with self._lock:
                self._addresses.pop(network, None)
            return Verdict(True)
        self._note_wrong(network)
        return Verdict(False)

    def _wait(self, network: str) -> int:
        with self._lock:
            found = self._addresses.get(network)
            left = found.until - self._clock() if found else 0.0
            if found is None or left <= 0:
                return 0
            found.unchecked += 1
            return math.ceil(left)

    def _note_wrong(self, network: str) -> None:
        now = self._clock()
        with self._lock:
            found = self._addresses.get(network)
            if found is None or now - found.last > FORGET_SECONDS:
                found = _Address()
            self._addresses[network] = found
            self._addresses.move_to_end(network)
            if len(self._addresses) > MAX_ADDRESSES:
                self._addresses.popitem(last=False)
            found.wrong, found.last = found.wrong + 1, now
            wait = _seconds(found.wrong)
            found.until = now + wait
            unchecked, found.unchecked = found.unchecked, 0
        logger.warning(
            "Refused a wrong password from %s: number %d, next one in %d s at the earliest "
            "(%d requests were refused unchecked before)",
            network,
            found.wrong,
            wait,
            unchecked,
        )


def _seconds(wrong: int) -> int:
    """How long an address waits after so many wrong passwords."""
    if wrong < FREE_GUESSES:
        return 0
    return int(min(MAX_WAIT_SECONDS, 2 ** min(wrong - FREE_GUESSES, 30)))


def _network(address: str) -> str:
    """The address; of an IPv6 address its /64, which is one host's or site's."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
