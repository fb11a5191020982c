from __future__ import annotations

from collections import Counter
from random import Random

from headshot.api.fair_queue import FairQueue, TokenBucket
from hypothesis import given
from hypothesis import strategies as st


def everything(_item: object) -> bool:
    return True


def drain(queue: FairQueue[str]) -> list[str]:
    served = []
    while (item := queue.peek(everything)) is not None:
        queue.take(item)
        served.append(item)
    return served


def test_one_tenant_is_served_in_the_order_of_arrival() -> None:
    queue: FairQueue[str] = FairQueue()
    for name in ("a1", "a2", "a3"):
        queue.push("a", 1, 1, name)
    assert drain(queue) == ["a1", "a2", "a3"]


def test_a_tenant_with_one_request_does_not_wait_behind_a_flood() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(50):
        queue.push("flood", 1, 1, f"flood{number}")
    queue.push("small", 1, 1, "small")
    assert drain(queue).index("small") <= 1


def test_service_is_shared_in_proportion_to_weight() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(60):
        queue.push("heavy", 3, 1, f"heavy{number}")
        queue.push("light", 1, 1, f"light{number}")
    first = Counter(name.rstrip("0123456789") for name in drain(queue)[:40])
    assert first["heavy"] == 30
    assert first["light"] == 10


def test_costly_requests_use_up_the_share_faster() -> None:
    queue: FairQueue[str] = FairQueue()
    for number in range(20):
        queue.push("big", 1, 4, f"big{number}")
        queue.push("small", 1, 1, f"small{number}")
    first = Counter(name.rstrip("0123456789") for name in drain(queue)[:20])
    assert first["small"] == 16
    assert first["big"] == 4


def test_work_served_without_waiting_counts_against_the_share() -> None:
    queue: FairQueue[str] = FairQueue()
    for _ in range(5):
        queue.charge("greedy", 1, 1)
    queue.push("greedy", 1, 1, "greedy")
    queue.push("new", 1, 1, "new")
    assert drain(queue) == ["new", "greedy"]


def test_an_idle_tenant_does_not_save_up_credit() -> None:
    queue: FairQueue[str] = FairQueue()
    queue.push("idle", 1, 1, "idle-first")
    drain(queue)
    for number in range(20):
        queue.push("busy", 1, 1, f"busy{number}")
        drain(queue)
    for number in range(4):
        queue.push("busy", 1, 1, f"b{number}")
        queue.push("idle", 1, 1, f"i{number}")
    first_four = Counter(name[0] for name in drain(queue)[:4])
    assert first_four["i"] <= 3


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.floats(0.1, 5)), max_size=60))
def test_everything_that_goes_in_comes_out_once(pushes: list[tuple[str, float]]) -> None:
    queue: FairQueue[str] = FairQueue()
    names = [f"{tenant}{number}" for number, (tenant, _) in enumerate(pushes)]
    for name, (tenant, cost) in zip(names, pushes, strict=True):
        queue.push(tenant, 1, cost, name)
    assert sorted(drain(queue)) == sorted(names)
    assert len(queue) == 0


def test_a_tenant_whose_callers_gave_up_is_served_as_if_they_had_never_come() -> None:
    queue: FairQueue[str] = FairQueue()
    gone = [f"gone{number}" for number in range(30)]
    for name in gone:
        queue.push("a", 1, 1, name)
    for name in gone:
        assert queue.drop(name)
    for number in range(10):
        queue.push("b", 1, 1, f"b{number}")
    queue.push("a", 1, 1, "again")
    assert drain(queue).index("again") <= 1


def test_those_behind_one_that_went_away_move_up_in_their_order() -> None:
    queue: FairQueue[str] = FairQueue()
    for name, cost in (("a0", 1), ("big", 4), ("a1", 1), ("a2", 1)):
        queue.push("a", 2, cost, name)
    for number in range(4):
        queue.push("b", 2, 1, f"b{number}")
    assert queue.drop("big")
    assert drain(queue) == ["a0", "b0", "a1", "b1", "a2", "b2", "b3"]


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.floats(0.1, 5), st.booleans()), max_size=40),
    st.randoms(use_true_random=False),
)
def test_whatever_is_dropped_the_others_keep_their_order_within_a_tenant(
    pushes: list[tuple[str, float, bool]], random: Random
) -> None:
    queue: FairQueue[str] = FairQueue()
    names = [f"{tenant}{number}" for number, (tenant, _, _) in enumerate(pushes)]
    for name, (tenant, cost, _) in zip(names, pushes, strict=True):
        queue.push(tenant, 1, cost, name)
    dropped = [name for name, (_, _, gone) in zip(names, pushes, strict=True) if gone]
    random.shuffle(dropped)
    for name in dropped:
        assert queue.drop(name)
    served = drain(queue)
    for tenant in "ab":
        kept = [name for name in names if name[0] == tenant and name not in dropped]
        assert [name for name in served if name[0] == tenant] == kept


def test_a_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    bucket = TokenBucket(rate=2, burst=4, now=0)
    assert [bucket.take(1, 0) for _ in range(4)] == [0, 0, 0, 0]
    assert bucket.take(1, 0) == 0.5
    assert bucket.take(1, 0.5) == 0
    assert bucket.take(1, 0.5) == 0.5


def test_a_bucket_without_a_rate_has_no_limit() -> None:
    bucket = TokenBucket(rate=0, burst=1, now=0)
    assert all(bucket.take(10, 0) == 0 for _ in range(100))


def test_work_costlier_than_the_burst_goes_through_and_is_paid_off_later() -> None:
    bucket = TokenBucket(rate=1, burst=2, now=0)
    assert bucket.take(5, 0) == 0
    assert bucket.take(1, 0) == 4


def test_tokens_given_back_can_be_taken_again() -> None:
    bucket = TokenBucket(rate=1, burst=1, now=0)
    bucket.take(1, 0)
    bucket.give_back(1)
    assert bucket.take(1, 0) == 0


def test_a_bucket_never_holds_more_than_its_burst() -> None:
    bucket = TokenBucket(rate=1, burst=2, now=0)
    bucket.take(1, 0)
    bucket.give_back(3)
    assert [bucket.take(1, 0) for _ in range(3)] == [0, 0, 1]
    assert [bucket.take(1, 100) for _ in range(3)] == [0, 0, 1]
