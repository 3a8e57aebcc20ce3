"""A batch that watches a key: carried out, refused because the key changed, or cut on its way."""

from __future__ import annotations

import pytest
from redis import Redis

from pyres import ResQ
from pyres.performer import Performer
from pyres.store import CONNECTION_ERRORS, Store
from tests.proxy import Proxy

RECORD_KEY = (
    b'{"queue":"mail","run_at":"2026-11-23T16:01:09Z","payload":{"class":"Mail","args":[1]}}'
)


@pytest.mark.parametrize("lost", [b"WATCH", b"GET", b"EXEC"])
@pytest.mark.parametrize("reached", [True, False])
def test_a_cut_connection_is_not_mistaken_for_a_change_of_the_watched_key(
    lost: bytes, reached: bool, store: Store, proxy: Proxy, redis: Redis
) -> None:
    redis.set("resque:worker:me", RECORD_KEY)
    (proxy.lose_reply if reached else proxy.lose_request)(lost)

    batch = store.batch(atomic=True)
    with pytest.raises(CONNECTION_ERRORS):
        batch.watch(batch.keys.worker("me"))
        batch.workers.delete_in_flight("me")
        batch.send()

    assert proxy.cuts == 1
    assert redis.exists("resque:worker:me") == (lost != b"EXEC" or not reached)


def test_a_change_of_the_watched_key_is_still_reported_as_one(store: Store, redis: Redis) -> None:
    redis.set("resque:worker:me", RECORD_KEY)
    batch = store.batch(atomic=True)

    assert batch.watch(batch.keys.worker("me")) == RECORD_KEY
    redis.set("resque:worker:me", b"another")
    batch.workers.delete_in_flight("me")

    assert batch.send() is False
    assert redis.get("resque:worker:me") == b"another"


@pytest.mark.parametrize("lost", [b"WATCH", b"GET", b"EXEC"])
@pytest.mark.parametrize("reached", [True, False])
def test_a_failure_is_recorded_once_wherever_its_connection_is_cut(
    lost: bytes, reached: bool, store: Store, proxy: Proxy, redis: Redis
) -> None:
    """If it counted as a change by another client, a lost connection would lose the record, and the
    job with it.
    """
    resq = ResQ(proxy.dsn)
    performer = Performer(["mail"], resq)
    redis.rpush("resque:queue:mail", b'{"class":"tests.nowhere.Mail","args":[1]}')
    job = performer.reserve(timeout=0)
    assert job is not None
    (proxy.lose_reply if reached else proxy.lose_request)(lost)

    performer.record_failure(job, ValueError("at a bad time"))

    assert proxy.cuts == 1
    assert redis.llen("resque:failed") == 1
    assert redis.get("resque:stat:failed") == b"1"
    assert not redis.exists(f"resque:worker:{performer}")
    performer.fetcher.close()
    resq.close()
