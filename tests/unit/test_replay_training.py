"""The pool of rows that a training learns from several times."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest

pytest.importorskip("torch", reason="training environment only: requirements/train.txt")

import torch

from export_scripts.training.replay import SIDES, ReplayPool, Rows, turned


def numbered(rows: int) -> Iterator[Rows]:
    """Rows whose identity is their number, and whose pictures are noise of that number's seed."""
    for number in count():
        random = torch.Generator().manual_seed(number)
        picture = torch.randint(0, 256, (rows, 3, 8, 8), generator=random, dtype=torch.uint8)
        yield picture, picture, torch.full((rows, 128), float(number))


def test_a_picture_and_its_degraded_copy_are_turned_alike() -> None:
    pool = ReplayPool(numbered(4), 64, torch.device("cpu"))
    sharp, rough, _ = pool.draw(16, least=64, timeout=30)
    pool.close()
    assert torch.equal(sharp, rough)
    assert sharp.dtype == torch.float32
    assert -1 <= float(sharp.min()) < -0.9 < 0.9 < float(sharp.max()) <= 1


def test_a_square_is_seen_in_eight_ways() -> None:
    square = torch.arange(4, dtype=torch.uint8).reshape(1, 1, 2, 2).expand(SIDES, 3, 2, 2)
    ways = {tuple(way[0].flatten().tolist()) for way in turned(square)}
    assert len(ways) == SIDES


def test_the_newest_rows_are_kept() -> None:
    def eight() -> Iterator[Rows]:
        rows = numbered(2)
        for _ in range(8):
            yield next(rows)

    pool = ReplayPool(eight(), 6, torch.device("cpu"))
    pool.draw(8, least=16, timeout=30)
    _, _, identity = pool.draw(256, least=16, timeout=30)
    assert set(identity[:, 0].tolist()) == {5.0, 6.0, 7.0}


def test_what_fails_while_rows_are_made_is_raised_where_they_are_drawn() -> None:
    def broken() -> Iterator[Rows]:
        yield next(numbered(2))
        raise OSError("disk gone")

    pool = ReplayPool(broken(), 8, torch.device("cpu"))
    with pytest.raises(RuntimeError, match="no more rows") as raised:
        pool.draw(8, least=8, timeout=30)
    assert isinstance(raised.value.__cause__, OSError)


def test_too_few_rows_in_time_are_told() -> None:
    def few() -> Iterator[Rows]:
        rows = numbered(2)
        yield next(rows)

    pool = ReplayPool(few(), 8, torch.device("cpu"))
    with pytest.raises(TimeoutError, match="2 of 8 rows"):
        pool.draw(8, least=8, timeout=0.2)
