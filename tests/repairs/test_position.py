"""Which batches of an epoch are seen when it is gone on with by another number of workers."""

from itertools import islice

import pytest
from fairseq.data.iterators import EpochBatchIterator
from torch.utils.data import Dataset

BATCHES = 13


class Numbers(Dataset):
    def __getitem__(self, index):
        return index

    def __len__(self):
        return BATCHES


def workers(count):
    """The iterators of ``count`` workers over batches of one number."""
    return [
        EpochBatchIterator(
            Numbers(), list, [[i] for i in range(BATCHES)], num_shards=count, shard_id=i, epoch=2
        )
        for i in range(count)
    ]


def see(iterators, batches=BATCHES):
    """What the workers see in their next ``batches`` batches, or in what is left of the epoch."""
    epochs = [iterator.next_epoch_itr() for iterator in iterators]
    return [number for epoch in epochs for batch in islice(epoch, batches) for number in batch]


@pytest.mark.parametrize("after", [1, 2, 3, 4])
@pytest.mark.parametrize(("before", "batches"), [(1, 3), (1, 12), (2, 3), (2, 5), (3, 1), (3, 4)])
def test_no_batch_is_left_out_and_few_are_seen_twice(before, batches, after):
    first, second = workers(before), workers(after)
    seen = see(first, batches)
    for iterator in second:
        iterator.load_state_dict(first[0].state_dict())
    again = see(second)
    assert sorted({*seen, *again}) == list(range(BATCHES))
    assert len(seen) + len(again) < BATCHES + after
    assert {iterator.epoch for iterator in second} == {2}


def test_as_many_workers_see_what_is_left():
    first, second = workers(2), workers(2)
    seen = see(first, 4)
    for iterator in second:
        iterator.load_state_dict(first[0].state_dict())
    assert sorted(seen + see(second)) == list(range(BATCHES))


def test_checkpoints_that_do_not_tell_are_read_as_by_fairseq():
    (iterator,) = workers(1)
    iterator.load_state_dict({"version": 2, "epoch": 2, "iterations_in_epoch": 9, "shuffle": False})
    assert see([iterator]) == [9, 10, 11, 12]


def test_an_epoch_that_ended_is_followed_by_the_next():
    first, (iterator,) = workers(2), workers(1)
    see(first)
    iterator.load_state_dict(first[0].state_dict())
    assert sorted(see([iterator])) == list(range(BATCHES))
    assert iterator.epoch == 3
