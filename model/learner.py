"""What learns: a network with its loss, its optimiser and its averaged weights, for Lightning."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from model.chip_batches import ChipBatch
from model.depthwise import run_depthwise_in_float32
from model.edge_weights import gaussian_edge_weights, unet_distance_weights
from model.encoder_weights import build_with_encoder
from model.freezing import freeze_stages
from model.init_weights import load_initial_weights
from model.losses import segmentation_loss, soft_loss
from model.mixup import draw_mixing, mix
from model.predict_chip import normalise
from model.regularisation import add_regularisation
from model.targets import make_targets
from model.train_config import EdgeConfig, TrainConfig
from model.unet import build_network


class SegmenterTraining(pl.LightningModule):
    """Loss and optimiser; the averaged weights follow the network.

    Args:
        config: the training.
    """

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.config = config
        network = build_initial_network(config)
        frozen = freeze_stages(network, config.frozen_stages)
        if config.has_frozen_norms:
            frozen += [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
        add_regularisation(network, config.regularisation)
        run_depthwise_in_float32(network)
        self.network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # A plain tuple, so that no layer is registered (and saved) twice.
        self.frozen = tuple(frozen)
        self.learning_rate = config.schedule.learning_rate
        average = warmed_up_average(config.schedule.ema_decay)
        self.averaged = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        self.averaged.requires_grad_(False)
        # Lightning leaves modes as they are: what is frozen has to be so from the start.
        self.train()

    def train(self, mode: bool = True) -> "SegmenterTraining":
        """Frozen layers stay in evaluation mode."""
        super().train(mode)
        for layer in self.frozen:
            layer.eval()
        return self

    def normalise(self, batch: ChipBatch) -> Tensor:
        """What the network takes, float32, (N, 3, h, w)."""
        return normalise(batch["image"], batch["valid"], self.config.mean, self.config.std)

    def training_step(self, batch: ChipBatch, batch_idx: int) -> Tensor:
        """Loss of one batch; its draws depend on the batch's own step."""
        config, ids = self.config, batch["ids"]
        step = int(batch["step"])
        # Dropout and stochastic depth, too, are functions of the seed and the step.
        torch.manual_seed(int(np.random.SeedSequence((config.seed, step)).generate_state(1)[0]))
        targets = make_targets(ids, config.network.separation, **asdict(config.targets))
        weights = torch.full_like(targets[:, 0], config.loss.base_weight)
        if config.edges.amplitude > 0.0:
            weights = weights + make_edge_weights(ids, config.edges)
        weights = weights * batch["known"]
        images = self.normalise(batch)
        mixing = draw_mixing(config.mixup, seed=config.seed, step=step, batch_size=len(ids))
        if mixing is not None:
            images, targets, weights = (mix(part, mixing) for part in (images, targets, weights))
        loss = segmentation_loss(self.network(images), targets, weights, config.loss)
        self.log("loss", loss, prog_bar=True)
        if "pool" in batch:
            pool_loss = self._pool_loss(batch["pool"])
            self.log("pool_loss", pool_loss, prog_bar=True)
            loss = loss + config.pool.weight * pool_loss
        return loss

    def _pool_loss(self, batch: ChipBatch) -> Tensor:
        """How far the network is from the teacher on unlabelled ground, over all channels."""
        logits = self.network(self.normalise(batch))
        known = batch["known"]
        losses = [
            soft_loss(logits[:, channel], batch["soft"][:, channel] / 255.0, known)
            for channel in range(logits.shape[1])
        ]
        return torch.stack(losses).sum()

    def configure_optimizers(self) -> Any:
        """AdamW with a one-cycle schedule, by step."""
        schedule = self.config.schedule
        optimizer = torch.optim.AdamW(
            (part for part in self.network.parameters() if part.requires_grad),
            lr=self.learning_rate,
            weight_decay=schedule.weight_decay,
        )
        cycle = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=self.learning_rate,
            # One more, since Lightning steps the schedule once after the last batch.
            total_steps=schedule.steps + 1,
            pct_start=schedule.warmup_share,
            cycle_momentum=False,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": cycle, "interval": "step"},
        }


def warmed_up_average(decay: float) -> Callable[[Any, Any, Any], None]:
    """An exponential average that starts short, so that it forgets the random start at once.

    Its decay is at most (1 + n) / (10 + n) after n steps, as TensorFlow's moving averages have it.

    Args:
        decay: what it comes to.
    """

    @torch.no_grad()
    def average(averaged: Any, current: Any, num_averaged: Any) -> None:
        share = 1.0 - min(decay, float((1 + num_averaged) / (10 + num_averaged)))
        for old, new in zip(averaged, current, strict=True):
            if old.is_floating_point():
                old.lerp_(new.to(old.dtype), share)
            else:
                old.copy_(new)

    return average


def make_edge_weights(ids: Tensor, edges: EdgeConfig) -> Tensor:
    """Weights of edges of either kind, float32, (N, h, w), on the device of the ids."""
    values = {"sigma_px": edges.sigma_px, "amplitude": edges.amplitude}
    if edges.kind == "gaussian":
        return gaussian_edge_weights(ids, **values)
    chips = [unet_distance_weights(chip, **values) for chip in ids.cpu().numpy()]
    return torch.from_numpy(np.stack(chips)).to(ids.device)


def build_initial_network(config: TrainConfig) -> nn.Module:
    """The network that a training starts from.

    Raises:
        TrainingError: if its weights cannot be had or do not fit.
    """
    if config.init is None:
        return build_with_encoder(config.network, config.encoder_weights)
    network = build_network(config.network)
    load_initial_weights(network, config.init)
    return network
