import time

import pytest

from causaldrive.sft.loader import Loader


def test_batches_come_in_order():
    assert list(Loader(lambda number: number * number, range(20))) == [n * n for n in range(20)]


def test_an_error_is_raised_where_its_batch_would_have_come():
    loader = iter(Loader(lambda number: 1 // (2 - number), range(5)))
    assert next(loader) == 0 and next(loader) == 1
    with pytest.raises(ZeroDivisionError):
        next(loader)


def test_leaving_early_makes_no_more_batches():
    made = []
    for number in Loader(lambda n: made.append(n) or n, range(1000), ahead=2):
        if number == 3:
            break
    assert max(made) <= 6


def test_waiting_is_measured():
    loader = Loader(lambda _: time.sleep(0.05), range(1))
    assert list(loader) == [None]
    assert loader.waited_s > 0.03
