"""Batches of chips as a dataset for PyTorch's DataLoader: item k is the whole batch of a step."""

from typing import NotRequired, TypedDict

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from model.chips import Chip, ChipSampler


class ChipBatch(TypedDict):
    """A batch.

    Attributes:
        image: RGB, uint8, (N, 3, h, w).
        ids: instances, 0 ground, int32, (N, h, w).
        known: labelled ground with image data, bool, (N, h, w).
        valid: has image data, bool, (N, h, w).
        gsd_m: pixel size in metres, float32, (N,).
        place: name of each chip's place.
        step: the step.
        soft: a teacher's output, round(255 * sigmoid), uint8, (N, channels, h, w), where all chips
            have one.
        pool: chips of unlabelled ground, where there is a pool.
    """

    image: Tensor
    ids: Tensor
    known: Tensor
    valid: Tensor
    gsd_m: Tensor
    place: list[str]
    step: int
    soft: NotRequired[Tensor]
    pool: NotRequired["ChipBatch"]


class ChipBatches(Dataset[ChipBatch]):
    """Batches of the steps from `start_step` on; item 0 is the batch of `start_step`.

    There are always `num_steps` of them, those beyond the training's end included: a resumed
    trainer counts on from where it was, to the length of the whole training.

    A batch depends on the sampler, its step and the chips' indices only, so any number of worker
    processes gives the same bits. With several ranks, each takes its own indices of the same step.
    Used with `DataLoader(batch_size=None, shuffle=False)`, and without Lightning's distributed
    sampler (`use_distributed_sampler=False`).

    Args:
        sampler: cuts the chips.
        batch_size: chips per batch and rank.
        num_steps: steps of the whole training.
        start_step: first step, above 0 when resuming.
        rank: this process among those that train together.
        num_ranks: how many they are.
        pool: cuts the chips of unlabelled ground that go with each batch.
        pool_batch_size: how many of these.
    """

    def __init__(
        self,
        sampler: ChipSampler,
        *,
        batch_size: int,
        num_steps: int,
        start_step: int = 0,
        rank: int = 0,
        num_ranks: int = 1,
        pool: ChipSampler | None = None,
        pool_batch_size: int = 0,
    ) -> None:
        if batch_size < 1 or not 0 <= rank < num_ranks:
            raise ValueError(
                f"batch_size = {batch_size}, rank = {rank} of {num_ranks}; expected at least one "
                "chip, and ranks from 0"
            )
        if not 0 <= start_step <= num_steps:
            raise ValueError(f"start_step = {start_step}; expected 0 to num_steps = {num_steps}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.start_step = start_step
        self.num_steps = num_steps
        self.first_index = rank * batch_size
        self.pool = pool
        self.pool_indices = range(rank * pool_batch_size, (rank + 1) * pool_batch_size)

    def __len__(self) -> int:
        return self.num_steps

    def __getitem__(self, item: int) -> ChipBatch:
        if not 0 <= item < len(self):
            raise IndexError(f"batch {item} of {len(self)}")
        step = self.start_step + item
        indices = range(self.first_index, self.first_index + self.batch_size)
        batch = collate_chips([self.sampler.chip(step, index) for index in indices], step)
        if self.pool is not None and self.pool_indices:
            chips = [self.pool.chip(step, index) for index in self.pool_indices]
            batch["pool"] = collate_chips(chips, step)
        return batch

    def loader(self, num_workers: int = 0) -> "DataLoader[ChipBatch]":
        """A loader that gives the batches in order.

        With workers, OpenCV has one thread from here on, in this process and in theirs: they share
        the cores already.

        Args:
            num_workers: processes that cut chips; 0 cuts them in the caller's own.
        """
        if num_workers > 0:
            # Here and not in the workers: a forked child that changes OpenCV's number of threads
            # waits for its parent's threads, for ever (OpenCV 5.0 with pthreads).
            cv2.setNumThreads(1)
        return DataLoader(
            self,
            batch_size=None,
            shuffle=False,
            num_workers=num_workers,
            pin_memory=torch.cuda.is_available(),
            persistent_workers=False,
        )


def collate_chips(chips: list[Chip], step: int = 0) -> ChipBatch:
    """Stack chips of one size.

    Args:
        chips: at least one.
        step: the step that they belong to.
    """
    batch = ChipBatch(
        image=torch.from_numpy(np.stack([chip.image for chip in chips])),
        ids=torch.from_numpy(np.stack([chip.ids for chip in chips])),
        known=torch.from_numpy(np.stack([chip.known for chip in chips])),
        valid=torch.from_numpy(np.stack([chip.valid for chip in chips])),
        gsd_m=torch.tensor([chip.gsd_m for chip in chips], dtype=torch.float32),
        place=[chip.place for chip in chips],
        step=step,
    )
    soft = [chip.soft for chip in chips if chip.soft is not None]
    if len(soft) == len(chips):
        batch["soft"] = torch.from_numpy(np.stack(soft))
    return batch
