"""Teacher, filter, student: what each of them sees."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from place_drawings import checkered_place
from small_trainings import LIGHTNING_WARNINGS, NETWORK, small, weights_of

from model.bundle import BundleMeta, load_bundle, save_bundle
from model.chip_pack import read_pack, write_pack
from model.chips import ChipConfig, ChipSampler
from model.errors import TrainingError
from model.noisy_student import (
    PoolFilterConfig,
    SelfTrainConfig,
    judge_ground,
    self_train,
    soft_labels,
    teach,
)
from model.places import Place
from model.regularisation import RegularisationConfig
from model.train_config import PoolConfig
from model.unet import build_network

pytestmark = LIGHTNING_WARNINGS

META = BundleMeta(
    name="teacher",
    network=NETWORK,
    bands=("red", "green", "blue"),
    mean=(0.45,) * 3,
    std=(0.25,) * 3,
    gsd_m=0.3,
)


def pool_place(name: str = "pool/one", **fields: object) -> Place:
    place = checkered_place(name, shape=(100, 130), split="pool")
    nothing = np.zeros(place.shape, bool)
    return dataclasses.replace(place, known=nothing, ids=np.zeros_like(place.ids), **fields)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    weights = build_network(NETWORK).state_dict()
    weights["segmentation_head.0.weight"] *= 20
    weights["segmentation_head.0.bias"] += 4.0
    save_bundle(path, META, {name: tensor.contiguous() for name, tensor in weights.items()})
    return path


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("packs")
    labelled, pool = folder / "labelled.zip", folder / "pool.zip"
    write_pack(
        labelled,
        [checkered_place("taught/one"), checkered_place("held_out/two", split="validation")],
    )
    write_pack(pool, [pool_place(), pool_place("pool/two")])
    return labelled, pool


def test_a_teacher_sees_the_image_as_it_is(teacher: Path) -> None:
    place = pool_place()
    bundle = load_bundle(teacher)
    network = bundle.build()
    soft = soft_labels(network, bundle.meta, place, has_bf16=False)
    image = torch.zeros(1, 3, 128, 160)
    image[0, :, :100, :130] = (torch.from_numpy(place.image).permute(2, 0, 1) / 255 - 0.45) / 0.25
    with torch.inference_mode():
        expected = torch.sigmoid(network.eval()(image))[0, :, :100, :130]
    assert soft.shape == (100, 130, 1)
    assert np.abs(soft[:, :, 0] - 255 * expected[0].numpy()).max() <= 0.51
    assert np.ptp(soft) > 100  # else the comparison says little
    again = soft_labels(network, bundle.meta, place, has_bf16=False)
    assert np.array_equal(soft, again)


def test_the_filter_keeps_sure_ground_with_buildings() -> None:
    place = pool_place()
    valid = place.valid.copy()
    valid[:, 120:] = False
    place = dataclasses.replace(
        place, valid=valid, image=np.where(valid[:, :, None], place.image, np.uint8(0))
    )
    soft = np.zeros((100, 130, 1), np.uint8)
    soft[:50, :50] = 250  # built up, sure
    soft[:50, 50:100] = 128  # unsure, and half of it counts as building
    soft[50:52, 100:102] = 250  # a speck in a cell of its own
    rules = PoolFilterConfig(cell_px=50, min_building_share=0.05, max_unsure_share=0.25)
    judged = judge_ground(place, soft, META, rules)
    kept = np.zeros((100, 130), bool)
    kept[:50, :50] = True
    assert np.array_equal(judged.kept, kept)
    assert judged.unsure[:50, 50:100].all()
    assert judged.few[50:, :120].all()
    parts = judged.kept.astype(int) + judged.few + judged.unsure
    assert np.array_equal(parts, valid.astype(int))


def test_the_report_adds_up(teacher: Path, packs: tuple[Path, Path], tmp_path: Path) -> None:
    pool = read_pack(packs[1])
    rules = PoolFilterConfig(cell_px=32, min_building_share=0.08, max_unsure_share=0.9)
    labelled, report = teach(teacher, pool, rules, small(packs[0], tmp_path))
    assert report.area_m2 == pytest.approx(2 * 100 * 130 * 0.09)
    assert report.kept_m2 + report.few_m2 + report.unsure_m2 == pytest.approx(report.area_m2)
    assert 0 < report.kept_m2 == pytest.approx(sum(place.known.sum() * 0.09 for place in labelled))
    assert "ha with few buildings" in str(report)
    strict = dataclasses.replace(rules, min_building_share=1.0, max_unsure_share=0.0)
    with pytest.raises(TrainingError, match="keeps nothing"):
        teach(teacher, pool, strict, small(packs[0], tmp_path))


def test_what_a_run_has_said_already_is_kept(teacher: Path, tmp_path: Path) -> None:
    said = np.full((100, 130, 1), 200, np.uint8)
    write_pack(tmp_path / "pool.zip", [pool_place(soft=said)])
    pool = read_pack(tmp_path / "pool.zip")
    labelled, _ = teach(teacher, pool, PoolFilterConfig(), small(tmp_path, tmp_path))
    assert np.array_equal(labelled[0].soft, said)


def test_soft_labels_move_with_their_chip() -> None:
    place = dataclasses.replace(
        pool_place(), split="train", known=np.ones((100, 130), bool), soft=None
    )
    place = dataclasses.replace(place, soft=np.ascontiguousarray(place.image[:, :, :2]))
    sampler = ChipSampler(
        [place],
        ChipConfig(size_px=48, gsd_m=(0.3, 0.3001), missing_share=0),
        seed=0,
        strength="none",
    )
    for index in range(5):
        chip = sampler.chip(0, index)
        assert chip.soft is not None
        assert chip.soft.shape == (2, 48, 48)
        difference = np.abs(chip.soft.astype(int) - chip.image[:2])[:, chip.valid]
        assert np.median(difference) <= 1


def test_rounds_give_students_and_pictures(
    teacher: Path, packs: tuple[Path, Path], tmp_path: Path
) -> None:
    student = dataclasses.replace(
        small(packs[0], tmp_path / "out", steps=2, validate_every=2),
        strength="strong",
        regularisation=RegularisationConfig(dropout=0.2, stochastic_depth=0.2),
        pool=PoolConfig(batch_size=1, weight=1.0),
    )
    config = SelfTrainConfig(
        teacher=str(teacher),
        pool=str(packs[1]),
        rounds=2,
        student=student,
        filter=PoolFilterConfig(min_building_share=0.0, max_unsure_share=1.0),
    )
    results = self_train(config)
    facts = load_bundle(results[1].bundle).meta.provenance
    assert facts["teacher"] == results[0].bundle.name
    assert facts["round"] == 2
    assert facts["pool_kept_ha"] == pytest.approx(0.2)
    for number in (1, 2):
        assert (tmp_path / "out" / f"round{number}" / "student_minus_teacher.png").stat().st_size
    # Without the pool it learns something else.
    alone = dataclasses.replace(student, pool=PoolConfig(batch_size=1, weight=0.0))
    other = self_train(
        dataclasses.replace(
            config, rounds=1, student=dataclasses.replace(alone, output=str(tmp_path / "alone"))
        )
    )
    name = "segmentation_head.0.weight"
    assert not torch.equal(
        weights_of(results[0].bundle)[name].float(), weights_of(other[0].bundle)[name].float()
    )


def test_a_pool_must_suit_its_teacher(
    teacher: Path, packs: tuple[Path, Path], tmp_path: Path
) -> None:
    student, rules = small(packs[0], tmp_path), PoolFilterConfig()
    coarse = pool_place(gsd_m=0.6)
    with pytest.raises(TrainingError, match=r"everyroof pool --gsd 0\.3`"):
        teach(teacher, [coarse], rules, student)
    two = pool_place(soft=np.zeros((100, 130, 2), np.uint8))
    with pytest.raises(TrainingError, match="without --probability"):
        teach(teacher, [two], rules, student)
    other = dataclasses.replace(student, mean=(0.5, 0.5, 0.5))
    config = SelfTrainConfig(teacher=str(teacher), pool=str(packs[1]), student=other)
    everything = PoolFilterConfig(min_building_share=0.0, max_unsure_share=1.0)
    with pytest.raises(TrainingError, match="another network, mean or std"):
        self_train(dataclasses.replace(config, filter=everything))


def test_a_second_round_learns_from_the_first_student(
    teacher: Path, packs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run wrote about the pool is the first teacher's word and no other's."""
    said = np.full((100, 130, 1), 200, np.uint8)
    write_pack(tmp_path / "pool.zip", [pool_place(soft=said)])
    seen: list[list[bool]] = []

    def note(name: Path, pool: list[Place], *rest: object) -> object:
        seen.append([place.soft is not None for place in pool])
        return teach(name, pool, *rest)

    monkeypatch.setattr("model.noisy_student.teach", note)
    student = small(packs[0], tmp_path / "out", steps=1, validate_every=1)
    rules = PoolFilterConfig(min_building_share=0.0, max_unsure_share=1.0)
    self_train(
        SelfTrainConfig(
            teacher=str(teacher),
            pool=str(tmp_path / "pool.zip"),
            student=student,
            rounds=2,
            filter=rules,
        )
    )
    assert seen == [[True], [False]]


def test_a_student_needs_its_teachers_channels(
    teacher: Path, packs: tuple[Path, Path], tmp_path: Path
) -> None:
    student = small(packs[0], tmp_path)
    student = dataclasses.replace(
        student, network=dataclasses.replace(NETWORK, separation="border")
    )
    with pytest.raises(TrainingError, match="its teacher's channels"):
        teach(teacher, read_pack(packs[1]), PoolFilterConfig(), student)
    with pytest.raises(TrainingError, match="everyroof pool"):
        self_train(SelfTrainConfig(teacher=str(teacher), pool=str(packs[0]), student=student))
