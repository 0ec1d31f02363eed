from types import SimpleNamespace

import numpy as np
import pytest
from fairseq.data import FairseqDataset
from fairseq.tasks import FairseqTask
from omegaconf import OmegaConf

from admin_fairseq.repairs import batches


class Sentences(FairseqDataset):
    """Sentences of one length, which come in any order."""

    can_reuse_epoch_itr_across_epochs = True
    sizes = np.full(30, 5)
    epoch = None

    def __len__(self):
        return len(self.sizes)

    def num_tokens(self, index):
        return self.sizes[index]

    def num_tokens_vec(self, indices):
        return self.sizes[indices]

    def ordered_indices(self):
        return np.random.permutation(len(self))

    def collater(self, samples):
        return samples

    def set_epoch(self, epoch):
        self.epoch = epoch


def run_of(start, dataset, seed_grows=False, repaired=True, **options):
    """The iterator of a process that starts in epoch ``start``, and its task."""
    task = FairseqTask(SimpleNamespace())
    if repaired:
        options_of_run = {"dataset": {"update_ordered_indices_seed": seed_grows}}
        batches.apply(task, OmegaConf.create(options_of_run))
    seed = 7 + start * seed_grows
    words = {"max_sentences": 4, "seed": seed, "epoch": start, **options}
    return task.get_batch_iterator(dataset=dataset, **words), task


def first_batches(iterator):
    return [list(batch) for batch in iterator.frozen_batches]


@pytest.mark.parametrize("seed_grows", [False, True])
def test_a_restart_makes_the_batches_of_the_first_epoch(seed_grows):
    dataset = Sentences()
    uninterrupted, _ = run_of(1, dataset, seed_grows, repaired=False)
    restarted, task = run_of(3, dataset, seed_grows)
    assert first_batches(restarted) == first_batches(uninterrupted)
    assert restarted.seed == uninterrupted.seed  # of the order of batches
    assert (restarted.epoch, dataset.epoch, restarted.next_epoch_idx) == (3, 3, 3)
    assert task.get_batch_iterator(dataset=dataset, seed=7, epoch=4) is restarted
    assert restarted.epoch == 3


@pytest.mark.parametrize("option", ["disable_iterator_cache", "update_epoch_batch_itr"])
def test_batches_that_each_epoch_makes_anew_stay_its_own(option):
    dataset, words = Sentences(), {option: True}
    stock, _ = run_of(3, dataset, repaired=False, **words)
    ours, _ = run_of(3, dataset, **words)
    assert first_batches(ours) == first_batches(stock)


def test_data_that_changes_with_the_epoch_stays_as_it_is():
    dataset = Sentences()
    dataset.can_reuse_epoch_itr_across_epochs = False
    stock, _ = run_of(3, dataset, repaired=False)
    ours, _ = run_of(3, dataset)
    assert first_batches(ours) == first_batches(stock)


def test_the_first_epoch_stays_as_it_is():
    dataset = Sentences()
    stock, _ = run_of(1, dataset, repaired=False)
    ours, _ = run_of(1, dataset)
    assert first_batches(ours) == first_batches(stock)
