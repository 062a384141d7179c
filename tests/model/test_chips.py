import dataclasses
import math

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from place_drawings import checkered_place, colour_of
from torchvision.transforms.v2 import functional as tv

from model.chip_batches import ChipBatches, collate_chips
from model.chip_pack import read_pack, write_pack
from model.chips import STRENGTHS, ChipConfig, ChipSampler, resample_place, validation_windows
from model.errors import PlaceError
from model.photometric import PhotometricConfig, change_colours, colour_matrix, gamma_table
from model.pyramid import build_pyramid

SMALL = ChipConfig(size_px=64)
NO_PHOTO = PhotometricConfig(
    **{  # type: ignore[arg-type]
        field.name: 0 if field.name != "jpeg_quality" else 90
        for field in dataclasses.fields(PhotometricConfig)
    }
)


def _places():
    return [
        checkered_place("a/1"),
        checkered_place("a/2", gsd_m=0.15, shape=(400, 300)),
        checkered_place("b/held_out", split="validation"),
    ]


def _same(one, other):
    for name in ("image", "ids", "known", "valid"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.gsd_m, one.place) == (other.gsd_m, other.place)


# --- what a chip depends on ----------------------------------------------------------------------


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_chip_is_a_function_of_seed_step_and_index(strength):
    one = ChipSampler(_places(), SMALL, seed=7, strength=strength)
    other = ChipSampler(_places(), SMALL, seed=7, strength=strength)
    wanted = {(step, index): one.chip(step, index) for step in range(3) for index in range(4)}
    for step, index in reversed(wanted):
        _same(other.chip(step, index), wanted[step, index])
    images = {chip.image.tobytes() for chip in wanted.values()}
    assert len(images) == len(wanted)
    assert ChipSampler(_places(), SMALL, seed=8).chip(0, 0).image.tobytes() not in images


def test_chips_do_not_depend_on_the_number_of_threads():
    sampler = ChipSampler(_places(), SMALL, seed=0, strength="strong")
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        wanted = [sampler.chip(0, index) for index in range(20)]
        cv2.setNumThreads(4)
        for index, chip in enumerate(wanted):
            _same(sampler.chip(0, index), chip)
    finally:
        cv2.setNumThreads(before)


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_batches_do_not_depend_on_workers(num_workers):
    sampler = ChipSampler(_places(), SMALL, seed=3)
    batches = ChipBatches(sampler, batch_size=3, num_steps=5)
    seen = list(batches.loader(num_workers))
    assert [batch["step"] for batch in seen] == [0, 1, 2, 3, 4]
    for batch in seen:
        wanted = collate_chips([sampler.chip(batch["step"], index) for index in range(3)])
        assert list(batch["place"]) == wanted["place"]
        for name in ("image", "ids", "known", "valid", "gsd_m"):
            assert torch.equal(batch[name], wanted[name])


def test_batches_resume_and_share_steps_between_ranks():
    sampler = ChipSampler(_places(), SMALL, seed=3)
    whole = ChipBatches(sampler, batch_size=4, num_steps=6)
    rest = ChipBatches(sampler, batch_size=4, num_steps=6, start_step=4)
    assert (len(whole), len(rest)) == (6, 6)  # a resumed trainer counts on to the whole length
    assert torch.equal(rest[0]["image"], whole[4]["image"])
    halves = [ChipBatches(sampler, batch_size=2, num_steps=6, rank=r, num_ranks=2) for r in (0, 1)]
    together = torch.cat([half[5]["image"] for half in halves])
    assert torch.equal(together, whole[5]["image"])
    with pytest.raises(IndexError):
        rest[6]
    with pytest.raises(ValueError, match="rank = 2 of 2"):
        ChipBatches(sampler, batch_size=2, num_steps=6, rank=2, num_ranks=2)
    with pytest.raises(ValueError, match="start_step = 7"):
        ChipBatches(sampler, batch_size=2, num_steps=6, start_step=7)


def test_types_and_shapes_of_a_batch():
    batch = ChipBatches(ChipSampler(_places(), SMALL, seed=0), batch_size=2, num_steps=1)[0]
    assert (batch["image"].shape, batch["image"].dtype) == ((2, 3, 64, 64), torch.uint8)
    assert (batch["ids"].shape, batch["ids"].dtype) == ((2, 64, 64), torch.int32)
    for name in ("known", "valid"):
        assert (batch[name].shape, batch[name].dtype) == ((2, 64, 64), torch.bool)
    assert (batch["gsd_m"].shape, batch["gsd_m"].dtype) == ((2,), torch.float32)


# --- where chips come from -----------------------------------------------------------------------


def test_no_chip_comes_from_a_validation_place():
    # Validation ground is blue and nothing else is: a single pixel of it would show.
    blue = np.zeros((192, 256, 3), np.uint8)
    blue[:, :, 2] = 255
    red = blue[:, :, ::-1].copy()
    places = [
        checkered_place("a/train", image=red, region="a/1"),
        checkered_place("a/validation", image=blue, region="a/2", split="validation", weight=1e9),
    ]
    sampler = ChipSampler(places, SMALL, seed=0, strength="none")
    for step in range(20):
        for index in range(20):
            chip = sampler.chip(step, index)
            assert chip.place == "a/train"
            assert not chip.image[2].any()


def test_nothing_to_draw_from_is_refused():
    held_out = checkered_place(split="validation")
    unlabelled = checkered_place("a/2", known=np.zeros((192, 256), np.bool_))
    weightless = checkered_place("a/3", weight=0.0)
    with pytest.raises(PlaceError, match="none of 3 places"):
        ChipSampler([held_out, unlabelled, weightless], SMALL, seed=0)
    with pytest.raises(ValueError, match="strength = 'huge'"):
        ChipSampler(_places(), SMALL, seed=0, strength="huge")  # type: ignore[arg-type]


def test_places_are_drawn_by_weight_and_known_area():
    half = np.ones((192, 256), np.bool_)
    half[:96] = False
    places = [
        checkered_place("a/whole"),
        checkered_place("a/half", known=half),
        checkered_place("b/heavy", weight=2.5),
    ]
    config = ChipConfig(size_px=16)
    sampler = ChipSampler(places, config, seed=1, strength="none")
    names = [sampler.chip(0, index).place for index in range(2000)]
    shares = [names.count(place.name) / len(names) for place in places]
    assert shares == pytest.approx([0.25, 0.125, 0.625], abs=0.04)


def test_chips_lie_on_known_ground():
    known = np.zeros((192, 256), np.bool_)
    known[32:64, 192:240] = True
    config = ChipConfig(size_px=16, gsd_m=(0.3, 0.3), beyond_share=0.0, missing_share=0.0)
    sampler = ChipSampler([checkered_place(known=known)], config, seed=0, strength="none")
    for index in range(50):
        # Centred on it, to within the pull away from the edge, which is far from here.
        assert sampler.chip(0, index).known[7:9, 7:9].any()


def test_every_pixel_of_a_place_is_seen_and_chips_fit_inside():
    config = ChipConfig(size_px=64, gsd_m=(0.3, 0.6), beyond_share=0.0, missing_share=0.0)
    place = checkered_place(ids=np.arange(192 * 256, dtype=np.int32).reshape(192, 256) // 4)
    sampler = ChipSampler([place], config, seed=0, strength="none")
    seen: set[int] = set()
    for index in range(300):
        chip = sampler.chip(0, index)
        assert chip.valid.mean() > 0.99
        seen |= set(np.unique(chip.ids).tolist())
    assert len(seen) > 0.98 * (192 * 256 // 4)


def test_half_of_the_chips_are_centred_on_buildings():
    ids = np.zeros((512, 512), np.int32)
    ids[96:128, 400:432] = 1
    place = checkered_place(shape=(512, 512), ids=ids)
    config = ChipConfig(size_px=16, gsd_m=(0.3, 0.3), missing_share=0.0)
    sampler = ChipSampler([place], config, seed=0, strength="none")
    share = np.mean([sampler.chip(0, index).ids[8, 8] == 1 for index in range(600)])
    assert share == pytest.approx(0.5, abs=0.08)


def test_pixel_sizes_are_spread_over_the_range():
    config = ChipConfig(size_px=32, gsd_m=(0.2, 0.8))
    sampler = ChipSampler([checkered_place(gsd_m=0.15)], config, seed=0, strength="none")
    sizes = np.array([sampler.chip(0, index).gsd_m for index in range(600)])
    assert sizes.min() >= 0.2
    assert sizes.max() <= 0.8
    # Evenly on a logarithmic scale: half of them below the geometric mean.
    assert np.mean(sizes < 0.4) == pytest.approx(0.5, abs=0.07)


def test_pixel_sizes_respect_detail_and_size_of_the_place():
    config = ChipConfig(size_px=256, gsd_m=(0.1, 0.8), max_upsampling=1.5, min_cover=0.75)
    sampler = ChipSampler([checkered_place()], config, seed=0, strength="none")
    sizes = [sampler.chip(0, index).gsd_m for index in range(50)]
    assert min(sizes) >= 0.3 / 1.5
    assert max(sizes) <= 192 * 0.3 / (0.75 * 256)


# --- geometry ------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.sampled_from([0.15, 0.3]), st.booleans(), st.booleans())
def test_image_and_ids_move_together(index, gsd_m, rotate, flip):
    place = checkered_place(gsd_m=gsd_m, block_px=48)
    config = ChipConfig(size_px=96, gsd_m=(0.2, 0.6), rotate=rotate, flip=flip)
    chip = ChipSampler([place], config, seed=0, strength="none").chip(0, index)
    assert (chip.known <= chip.valid).all()
    assert (chip.image[:, ~chip.valid] == 0).all()
    # Away from edges a pixel has the colour of its id.
    inside = _far_from_edges(np.where(chip.valid, chip.ids, -1), 4)
    expected = colour_of(chip.ids[inside])
    found = chip.image.transpose(1, 2, 0)[inside]
    assert inside.any()
    assert np.abs(found.astype(int) - expected).max() <= 1


def _far_from_edges(ids, radius):
    size = 2 * radius + 1
    low = cv2.erode(ids.astype(np.float32), np.ones((size, size)))
    high = cv2.dilate(ids.astype(np.float32), np.ones((size, size)))
    inside = low == high
    inside[:radius] = inside[-radius:] = inside[:, :radius] = inside[:, -radius:] = False
    return inside & (ids >= 0)


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_areas_are_kept(index):
    ids = np.zeros((400, 400), np.int32)
    ids[180:220, 170:230] = 5  # 40 x 60 px
    place = checkered_place(shape=(400, 400), ids=ids, image=colour_of(ids))
    config = ChipConfig(
        size_px=256, gsd_m=(0.2, 0.6), building_share=1.0, beyond_share=0, missing_share=0
    )
    chip = ChipSampler([place], config, seed=1, strength="none").chip(0, index)
    area_m2 = (chip.ids == 5).sum() * chip.gsd_m**2
    perimeter_m = 200 * 0.3
    is_whole = not (chip.ids[[0, -1]].any() or chip.ids[:, [0, -1]].any())
    if is_whole:
        assert abs(area_m2 - 2400 * 0.09) <= 0.5 * perimeter_m * chip.gsd_m
    else:
        assert area_m2 > 0


def test_half_of_the_chips_are_mirrored_and_all_angles_occur():
    # A gradient to the east and one to the south tell turn and reflection of a chip.
    rows, cols = np.indices((256, 256))
    image = np.stack([cols, rows, np.zeros_like(cols)], axis=2).astype(np.uint8)
    place = checkered_place(shape=(256, 256), image=image)
    config = ChipConfig(size_px=16, gsd_m=(0.3, 0.3), beyond_share=0, missing_share=0)
    sampler = ChipSampler([place], config, seed=0, strength="none")
    signs, angles = [], []
    for index in range(400):
        red, green, _ = sampler.chip(0, index).image.astype(float)
        a, b = red[8, 12] - red[8, 4], red[12, 8] - red[4, 8]
        c, d = green[8, 12] - green[8, 4], green[12, 8] - green[4, 8]
        signs.append(a * d - b * c > 0)
        angles.append(math.atan2(d, b) % (2 * math.pi))
    assert np.mean(signs) == pytest.approx(0.5, abs=0.08)
    counts, _ = np.histogram(angles, bins=8, range=(0, 2 * math.pi))
    assert counts.min() > 25


def test_without_turn_and_flip_chips_are_windows():
    place = checkered_place(
        ids=np.arange(192 * 256, dtype=np.int32).reshape(192, 256) // 4, block_px=16
    )
    config = ChipConfig(
        size_px=32, gsd_m=(0.3, 0.3), rotate=False, flip=False, beyond_share=0, missing_share=0
    )
    sampler = ChipSampler([place], config, seed=0, strength="none")
    for index in range(20):
        ids = sampler.chip(0, index).ids * 4
        assert (np.abs(np.diff(ids // 256, axis=0) - 1) <= 1).all()
        assert (np.diff(ids, axis=1) >= 0).all()


def test_the_pyramid_holds_exact_means():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (40, 64, 3), np.uint8)
    valid = rng.random((40, 64)) < 0.9
    image[~valid] = 0
    place = checkered_place(
        shape=(40, 64), image=image, valid=valid, known=valid & (rng.random((40, 64)) < 0.5)
    )
    pyramid = build_pyramid(place, 1.2)
    assert [level.shape for level in pyramid.levels] == [(40, 64, 4), (20, 32, 4), (10, 16, 4)]
    boxes = image.reshape(20, 2, 32, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(pyramid.levels[1][:, :, :3] - boxes).max() <= 0.5
    all_valid = valid.reshape(20, 2, 32, 2).all(axis=(1, 3))
    np.testing.assert_array_equal(pyramid.levels[1][:, :, 3] == 255, all_valid)
    assert [pyramid.level_of(gsd) for gsd in (0.2, 0.3, 0.59, 0.6, 1.2, 5.0)] == [0, 0, 0, 1, 2, 2]


def test_a_place_at_its_own_pixel_size_is_itself():
    valid = np.ones((192, 256), np.bool_)
    valid[100:, 200:] = False
    image = checkered_place().image.copy()
    image[~valid] = 0
    place = checkered_place(valid=valid, known=valid, image=image)
    chip = resample_place(place, place.gsd_m)
    np.testing.assert_array_equal(chip.image.transpose(1, 2, 0), place.image)
    np.testing.assert_array_equal(chip.ids, place.ids)
    np.testing.assert_array_equal(chip.known, place.known)
    np.testing.assert_array_equal(chip.valid, place.valid)


def test_a_place_at_twice_its_pixel_size_has_box_means():
    place = checkered_place(block_px=6)
    chip = resample_place(place, 0.6)
    boxes = place.image.reshape(96, 2, 128, 2, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(chip.image.transpose(1, 2, 0) - boxes).max() <= 0.5
    # Blocks are whole numbers of pixels: labels are exact.
    np.testing.assert_array_equal(chip.ids, place.ids[::2, ::2])


def test_padding_has_no_image_data():
    chip = resample_place(checkered_place(), 0.5, multiple_px=32)
    assert chip.ids.shape == (128, 160)  # 115.2 and 153.6 px
    assert chip.valid[:114, :152].all()
    assert not chip.valid[116:].any()
    assert not chip.known[:, 155:].any()
    assert not chip.image[:, 116:].any()


@pytest.mark.parametrize("gsd_m", [0.3, 0.45, 0.6])
def test_windows_make_up_the_whole_place(gsd_m):
    place = checkered_place()
    whole = resample_place(place, gsd_m, multiple_px=48)
    windows = iter(validation_windows(place, gsd_m, 48))
    for row in range(0, whole.ids.shape[0], 48):
        for col in range(0, whole.ids.shape[1], 48):
            window = next(windows)
            np.testing.assert_array_equal(
                window.image, whole.image[:, row : row + 48, col : col + 48]
            )
            np.testing.assert_array_equal(window.ids, whole.ids[row : row + 48, col : col + 48])
    assert next(windows, None) is None


def test_windows_without_known_ground_are_left_out():
    known = np.zeros((192, 256), np.bool_)
    known[:64, :64] = True
    assert len(validation_windows(checkered_place(known=known), 0.3, 64)) == 1


# --- colours -------------------------------------------------------------------------------------


def test_labels_do_not_depend_on_the_strength():
    config = dataclasses.replace(SMALL, missing_share=0.0)
    samplers = [ChipSampler(_places(), config, seed=2, strength=s) for s in STRENGTHS]
    for index in range(30):
        none, weak, strong = (sampler.chip(0, index) for sampler in samplers)
        for other in (weak, strong):
            np.testing.assert_array_equal(other.ids, none.ids)
            assert other.gsd_m == none.gsd_m
            # Sampled from a coarser level now and then, whose edge of validity is coarser too.
            assert (other.valid != none.valid).mean() < 0.1
        assert (weak.image != none.image).any()


def test_missing_ground_occurs_as_often_as_asked():
    config = ChipConfig(size_px=32, beyond_share=0.0, missing_share=0.3, gsd_m=(0.3, 0.4))
    sampler = ChipSampler([checkered_place()], config, seed=0, strength="none")
    chips = [sampler.chip(0, index) for index in range(300)]
    share = np.mean([not chip.valid.all() for chip in chips])
    assert share == pytest.approx(0.3, abs=0.08)
    for chip in chips:
        assert not (chip.known & ~chip.valid).any()
        assert not chip.image[:, ~chip.valid].any()


def test_no_change_asked_for_is_no_change():
    image = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    valid = np.ones((40, 50), np.bool_)
    changed = change_colours(image, valid, NO_PHOTO, np.random.default_rng(1))
    np.testing.assert_array_equal(changed, image)


@settings(max_examples=30)
@given(
    st.sampled_from(["brightness", "contrast", "saturation"]),
    st.floats(0.6, 1.4),
    st.integers(0, 100),
)
def test_linear_changes_mean_what_they_mean_in_torchvision(change, factor, seed):
    image = np.random.default_rng(seed).integers(90, 160, (20, 30, 3), np.uint8)
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    expected = getattr(tv, f"adjust_{change}")(tensor, factor).permute(1, 2, 0).numpy()
    grey = tv.rgb_to_grayscale(tensor).float().mean().item()
    ours = cv2.transform(image, colour_matrix(mean_grey=grey, **{change: factor}))
    assert np.abs(ours.astype(int) - expected).max() <= 2


@pytest.mark.parametrize("exponent", [0.7, 1.0, 1.5])
def test_gamma_is_that_of_torchvision(exponent):
    values = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 256)
    expected = tv.adjust_gamma(values, exponent).numpy().ravel()
    assert np.abs(gamma_table(exponent).astype(int) - expected).max() <= 1


def test_hue_keeps_grey_and_turns_red_to_green():
    third = colour_matrix(mean_grey=0.0, hue_deg=120.0)[:, :3]
    np.testing.assert_allclose(third @ (1, 1, 1), (1, 1, 1), atol=1e-12)
    np.testing.assert_allclose(third @ (1, 0, 0), (0, 1, 0), atol=1e-12)
    np.testing.assert_allclose(np.linalg.matrix_power(third, 3), np.eye(3), atol=1e-12)


def test_missing_ground_does_not_darken_what_is_beside_it():
    image = np.full((32, 32, 3), 200, np.uint8)
    valid = np.ones((32, 32), np.bool_)
    valid[:, 16:] = False
    image[~valid] = 0
    config = dataclasses.replace(NO_PHOTO, blur_share=1.0, blur_px=3.0, contrast=0.9)
    changed = change_colours(image, valid, config, np.random.default_rng(0))
    np.testing.assert_array_equal(changed[valid], image[valid])


def test_stronger_changes_go_further():
    strong = PhotometricConfig().stronger(2.0)
    for field in dataclasses.fields(PhotometricConfig):
        weak_value = getattr(PhotometricConfig(), field.name)
        if field.name == "jpeg_quality":
            assert getattr(strong, field.name) < weak_value
        else:
            assert getattr(strong, field.name) > weak_value
    assert PhotometricConfig().stronger(1.0) == PhotometricConfig()


@pytest.mark.parametrize(
    "fields",
    [
        {"size_px": 8},
        {"gsd_m": (0.6, 0.2)},
        {"gsd_m": (0.0, 0.2)},
        {"max_upsampling": 0.5},
        {"missing_share": 1.5},
        {"cutout_size": -0.1},
        {"strong_factor": 0.0},
    ],
)
def test_settings_out_of_range_are_refused(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=name):
        ChipConfig(**fields)


@pytest.mark.parametrize("fields", [{"brightness": 1.5}, {"jpeg_quality": 0}, {"noise": -1}])
def test_colour_settings_out_of_range_are_refused(fields):
    (name,) = fields
    with pytest.raises(ValueError, match=name):
        PhotometricConfig(**fields)


def test_a_pack_gives_the_same_labels(tmp_path):
    places = _places()
    write_pack(tmp_path / "p.zip", places)
    packed = ChipSampler(read_pack(tmp_path / "p.zip"), SMALL, seed=0, strength="none")
    fresh = ChipSampler(places, SMALL, seed=0, strength="none")
    for index in range(10):
        one, other = packed.chip(0, index), fresh.chip(0, index)
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.valid, other.valid)
