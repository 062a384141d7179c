import dataclasses
from pathlib import Path

import geopandas
import numpy as np
import pytest
import rasterio
import synthetic
import torch
from affine import Affine
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_bundles import save_random_unet
from rasterio.enums import Resampling
from rasterio.features import rasterize
from torch import Tensor, nn

from model.bundle import Bundle, BundleMeta, load_bundle
from model.colour_bundle import save_colour_bundle
from model.devices import has_native_bf16, is_thread_free, stable_num_threads
from model.errors import SegmentError
from model.masking import LayerMasking
from model.segment import SegmentConfig, Segmenter
from model.unet import Architecture, NetworkConfig, register_architecture

WINDOW_PX, MARGIN_PX = 64, 32
PRECISIONS = ["fp32", "bf16"]


@pytest.fixture(scope="module")
def unet_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net of random weights whose probabilities are spread over 0 to 1."""
    return save_random_unet(
        tmp_path_factory.mktemp("bundles") / "unet.safetensors",
        NetworkConfig(encoder="resnet18", decoder_channels=(64, 32, 16, 8, 8)),
        seed=3,
        sample_px=256,
        mean=(0.4, 0.45, 0.5),
        std=(0.2, 0.25, 0.3),
        window_px=WINDOW_PX,
        margin_px=MARGIN_PX,
    )


def _tile(
    num_rows: int, num_cols: int, seed: int = 0, window_px: int = WINDOW_PX
) -> tuple[np.ndarray, np.ndarray]:
    """A drawn town with its margin, all valid."""
    height, width = (n * window_px + 2 * MARGIN_PX for n in (num_rows, num_cols))
    return synthetic.draw_town(height, width, seed=seed).pixels, np.ones((height, width), bool)


# What the probabilities are.


@pytest.mark.parametrize("has_hole", [False, True])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_probabilities_are_those_of_a_plain_forward_pass(
    unet_bundle: Path, precision: str, has_hole: bool
) -> None:
    """Against the unfolded float32 network, window by window, masked only where there is a hole."""
    pixels, valid = _tile(2, 2)
    valid[50:90, 20:100] = not has_hole
    bundle = load_bundle(unet_bundle)
    mean = torch.tensor(bundle.meta.mean).view(3, 1, 1)
    std = torch.tensor(bundle.meta.std).view(3, 1, 1)
    images = (torch.from_numpy(pixels.copy()) / 255 - mean) / std
    images[:, torch.from_numpy(~valid)] = 0
    side = WINDOW_PX + 2 * MARGIN_PX
    expected = np.zeros((2 * WINDOW_PX, 2 * WINDOW_PX))
    network = bundle.build()
    masking = LayerMasking(network)
    for row in (0, WINDOW_PX):
        for col in (0, WINDOW_PX):
            part = np.s_[row : row + side, col : col + side]
            mask = torch.from_numpy(valid[part])[None, None] if has_hole else None
            with torch.inference_mode(), masking.using(mask):
                logits = network(images[None][:, :, *part])[0, 0]
            core = torch.sigmoid(logits)[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]
            expected[row : row + WINDOW_PX, col : col + WINDOW_PX] = core.numpy()
    expected[~valid[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]] = 0
    actual = Segmenter.load(unet_bundle, precision=precision).segment(pixels, valid)
    assert actual.dtype == np.uint8
    assert np.ptp(expected) > 0.5  # else the comparison says little
    error = np.abs(actual - 255 * expected)
    assert error.max() <= (0.51 if precision == "fp32" else 40)
    assert error.mean() <= (0.26 if precision == "fp32" else 4)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_drawn_roofs_are_segmented_to_the_pixel(tmp_path: Path, precision: str) -> None:
    town = synthetic.draw_town(512 + 32, 768 + 32, seed=4)
    path = save_colour_bundle(tmp_path / "b", roof_colours=[synthetic.ROOF_RGB])
    segmenter = Segmenter.load(path, precision=precision)
    probability = segmenter.segment(town.pixels, town.valid)
    level = segmenter.bundle.meta.threshold_uint8
    np.testing.assert_array_equal(probability >= level, town.mask[16:-16, 16:-16])
    assert town.mask.any()
    assert probability[probability >= level].min() >= 250


def test_a_kernel_of_three_rounds_corners(tmp_path: Path) -> None:
    town = synthetic.draw_polygons([synthetic.box_px(100, 100, 20, 30)], 256 + 32, 256 + 32)
    path = save_colour_bundle(tmp_path / "b", roof_colours=[synthetic.ROOF_RGB], kernel_px=3)
    mask = Segmenter.load(path, precision="fp32").segment(town.pixels, town.valid) >= 128
    expected = town.mask[16:-16, 16:-16].copy()
    for row in (84, 84 + 29):
        for col in (84, 84 + 19):
            expected[row, col] = False
    np.testing.assert_array_equal(mask, expected)


def test_several_roof_colours(tmp_path: Path) -> None:
    colours = [synthetic.ROOF_RGB, *synthetic.OTHER_ROOFS_RGB]
    path = save_colour_bundle(tmp_path / "b", roof_colours=colours, window_px=32, margin_px=0)
    pixels = np.full((3, 32, 32), 128, np.uint8)
    for index, colour in enumerate(colours):
        pixels[:, 4 + index, 7] = colour
    found = Segmenter.load(path).segment(pixels, np.ones((32, 32), bool)) >= 128
    assert np.argwhere(found).tolist() == [[4, 7], [5, 7], [6, 7]]


def test_colours_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected 3 levels"):
        save_colour_bundle(tmp_path / "b", roof_colours=[(1, 2)])
    with pytest.raises(ValueError, match="needs more"):
        save_colour_bundle(tmp_path / "b", kernel_px=5, margin_px=1)


# Valid and invalid pixels.


def test_what_lies_under_invalid_pixels_is_never_looked_at(unet_bundle: Path) -> None:
    pixels, valid = _tile(1, 2)
    valid[10:60, 30:90] = False
    other = pixels.copy()
    other[:, ~valid] = 255 - other[:, ~valid]
    segmenter = Segmenter.load(unet_bundle)
    probability = segmenter.segment(pixels, valid)
    np.testing.assert_array_equal(segmenter.segment(other, valid), probability)
    assert (probability[~valid[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX]] == 0).all()


def test_cores_without_valid_or_wanted_pixels_are_skipped(unet_bundle: Path) -> None:
    pixels, valid = _tile(2, 3)
    segmenter = Segmenter.load(unet_bundle)
    full = segmenter.segment(pixels, valid)
    assert (segmenter.stats.num_windows, segmenter.stats.num_skipped) == (6, 0)
    active = np.array([[True, False, True], [False, True, False]])
    part = segmenter.segment(pixels, valid, active=active)
    wanted = active.repeat(WINDOW_PX, 0).repeat(WINDOW_PX, 1)
    np.testing.assert_array_equal(part, np.where(wanted, full, 0))
    assert (segmenter.stats.num_windows, segmenter.stats.num_skipped) == (9, 3)
    # Valid pixels in the margin do not make a core worth a pass.
    nothing = valid.copy()
    nothing[MARGIN_PX:-MARGIN_PX, MARGIN_PX:-MARGIN_PX] = False
    assert not segmenter.segment(pixels, nothing).any()
    assert (segmenter.stats.num_windows, segmenter.stats.num_skipped) == (9, 9)


def test_inputs_are_left_alone_and_may_be_read_only(unet_bundle: Path) -> None:
    pixels, valid = _tile(1, 1)
    valid[40:50, 40:50] = False
    pixels.setflags(write=False)
    valid.setflags(write=False)
    before = pixels.copy()
    Segmenter.load(unet_bundle).segment(pixels, valid)
    np.testing.assert_array_equal(pixels, before)


# The same bits.


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bits_do_not_depend_on_batches_or_threads(unet_bundle: Path, precision: str) -> None:
    # Smaller inputs do depend on them in fp32, see `is_thread_free`.
    window_px = (1280 if precision == "fp32" else 128) - 2 * MARGIN_PX
    pixels, valid = _tile(1, 2, window_px=window_px)
    options = {"precision": precision, "window_px": window_px}
    expected = Segmenter.load(unet_bundle, num_threads=1, **options).segment(pixels, valid)
    for batch_size, num_threads in [(1, 2), (2, 1), (4, 2)]:
        segmenter = Segmenter.load(
            unet_bundle, batch_size=batch_size, num_threads=num_threads, **options
        )
        np.testing.assert_array_equal(segmenter.segment(pixels, valid), expected)
        assert segmenter.stats.num_padding == -2 % batch_size


@pytest.mark.parametrize("precision", PRECISIONS)
def test_bits_do_not_depend_on_the_place_in_the_batch(unet_bundle: Path, precision: str) -> None:
    pixels, valid = _tile(1, 4)
    segmenter = Segmenter.load(unet_bundle, precision=precision, batch_size=4)
    expected = segmenter.segment(pixels, valid)
    for first in (1, 2, 3):
        part = segmenter.segment(pixels[..., first * WINDOW_PX :], valid[:, first * WINDOW_PX :])
        np.testing.assert_array_equal(part, expected[:, first * WINDOW_PX :])


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_core_has_the_same_bytes_in_every_tile(unet_bundle: Path, precision: str) -> None:
    pixels, valid = _tile(3, 3)
    valid[20:140, 60:110] = False
    segmenter = Segmenter.load(unet_bundle, precision=precision, batch_size=2)
    whole = segmenter.segment(pixels, valid)
    for row, col, num_rows, num_cols in [(0, 0, 1, 1), (1, 1, 2, 2), (0, 2, 3, 1), (2, 0, 1, 3)]:
        rows = slice(row * WINDOW_PX, (row + num_rows) * WINDOW_PX + 2 * MARGIN_PX)
        cols = slice(col * WINDOW_PX, (col + num_cols) * WINDOW_PX + 2 * MARGIN_PX)
        part = segmenter.segment(pixels[:, rows, cols], valid[rows, cols])
        expected = whole[
            row * WINDOW_PX : (row + num_rows) * WINDOW_PX,
            col * WINDOW_PX : (col + num_cols) * WINDOW_PX,
        ]
        np.testing.assert_array_equal(part, expected)


def _turn(array: np.ndarray, quarter_turns: int, is_mirrored: bool) -> np.ndarray:
    mirrored = array[..., ::-1] if is_mirrored else array
    return np.ascontiguousarray(np.rot90(mirrored, quarter_turns, (-2, -1)))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_d4_turns_with_the_image(unet_bundle: Path, precision: str) -> None:
    pixels, valid = _tile(2, 1, seed=6)
    valid[:50, 70:] = False
    segmenter = Segmenter.load(unet_bundle, precision=precision, tta="d4", batch_size=2)
    expected = segmenter.segment(pixels, valid)
    plain = Segmenter.load(unet_bundle, precision=precision)
    assert np.abs(expected.astype(int) - plain.segment(pixels, valid)).max() > 5
    for quarter_turns, is_mirrored in [(1, False), (2, False), (0, True), (3, True)]:
        turned = segmenter.segment(
            _turn(pixels, quarter_turns, is_mirrored), _turn(valid, quarter_turns, is_mirrored)
        )
        np.testing.assert_array_equal(turned, _turn(expected, quarter_turns, is_mirrored))


def test_d4_is_the_mean_of_eight_passes(unet_bundle: Path) -> None:
    pixels, valid = _tile(1, 1, seed=7)
    plain = Segmenter.load(unet_bundle, precision="fp32")
    passes = [
        _turn(plain.segment(_turn(pixels, k, False), valid), -k, False).astype(float)
        for k in range(4)
    ]
    passes += [
        _turn(plain.segment(_turn(pixels, k, True), valid), k, True).astype(float) for k in range(4)
    ]
    both = Segmenter.load(unet_bundle, precision="fp32", tta="d4").segment(pixels, valid)
    # Each pass is rounded to half a level here, the mean once more.
    assert np.abs(both - np.mean(passes, axis=0)).max() <= 1.0


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), batch_size=st.integers(1, 5))
def test_noise_in_any_batch_gives_the_same_bytes(
    colour_bundle: Path, seed: int, batch_size: int
) -> None:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (3, 2 * 32 + 8, 3 * 32 + 8), dtype=np.uint8)
    valid = rng.random(pixels.shape[1:]) < rng.random()
    options = {"window_px": 32, "margin_px": 4, "num_threads": 1}
    one = Segmenter.load(colour_bundle, batch_size=1, **options).segment(pixels, valid)
    many = Segmenter.load(colour_bundle, batch_size=batch_size, **options).segment(pixels, valid)
    np.testing.assert_array_equal(one, many)


# Memory.


class _Limited(nn.Module):
    """Runs out of memory, in one of torch's words, above a batch of `limit` windows."""

    limit = 2
    error: Exception = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.mean = nn.Conv2d(in_channels, 1, 1)

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > self.limit:
            raise self.error
        return self.mean(images)


@pytest.fixture
def limited(monkeypatch: pytest.MonkeyPatch) -> Bundle:
    register_architecture(
        "limited", Architecture(lambda config: _Limited(config.in_channels), lambda config: 1)
    )
    meta = BundleMeta(
        name="limited",
        network=NetworkConfig(architecture="limited", in_channels=1),
        bands=("grey",),
        mean=(0.5,),
        std=(0.5,),
        gsd_m=1.0,
        window_px=16,
        margin_px=0,
    )
    weights = {"mean.weight": torch.full((1, 1, 1, 1), 2.0), "mean.bias": torch.zeros(1)}
    return Bundle(meta, weights, "0" * 64)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_halves_the_batch(
    limited: Bundle,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(_Limited, "error", error)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 80, 48), dtype=np.uint8)
    valid = np.ones((80, 48), bool)
    monkeypatch.setattr(_Limited, "limit", 8)
    expected = Segmenter(limited, SegmentConfig(batch_size=8)).segment(pixels, valid)
    monkeypatch.setattr(_Limited, "limit", 2)
    segmenter = Segmenter(limited, SegmentConfig(batch_size=8, num_streams=1))
    np.testing.assert_array_equal(segmenter.segment(pixels, valid), expected)
    stats = segmenter.stats
    assert (stats.batch_size, stats.num_halvings, stats.num_windows) == (2, 2, 15)
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    assert "batches of 4 windows" in caplog.records[0].getMessage()
    # The next tile starts with the batch that works.
    segmenter.segment(pixels, valid)
    assert stats.num_halvings == 2


def test_memory_for_not_even_one_window(limited: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Limited, "limit", 0)
    segmenter = Segmenter(limited, SegmentConfig(batch_size=2))
    with pytest.raises(SegmentError, match="one window of 16 px on cpu; lower window_px"):
        segmenter.segment(np.zeros((1, 16, 16), np.uint8), np.ones((16, 16), bool))


def test_other_errors_pass_through(limited: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_Limited, "limit", 0)
    monkeypatch.setattr(_Limited, "error", RuntimeError("something else"))
    segmenter = Segmenter(limited, SegmentConfig(batch_size=2))
    with pytest.raises(RuntimeError, match="something else"):
        segmenter.segment(np.zeros((1, 16, 16), np.uint8), np.ones((16, 16), bool))
    assert segmenter.stats.num_halvings == 0


# Settings.


def test_the_fingerprint_holds_what_the_bits_depend_on(
    unet_bundle: Path, colour_bundle: Path
) -> None:
    assert Segmenter.load(unet_bundle).fingerprint["num_folded"] == 30
    large = {"precision": "fp32", "num_threads": 2, "window_px": 1280}
    base = Segmenter.load(colour_bundle, **large).fingerprint
    assert base["bundle"] == load_bundle(colour_bundle).sha256
    assert base["torch"] == torch.__version__
    assert base["capability"] == torch.backends.cpu.get_cpu_capability()
    for changes in (
        {"precision": "bf16"},
        {"window_px": 1024},
        {"margin_px": 64},
        {"batch_size": 2},
        {"tta": "d4"},
        {"compile": True},
        {"num_threads": 3},
    ):
        assert Segmenter.load(colour_bundle, **{**large, **changes}).fingerprint != base
    assert Segmenter.load(colour_bundle, **{**large, "num_threads": 4}).fingerprint == base


@pytest.mark.parametrize(
    ("device", "precision", "input_px", "num_threads", "expected"),
    [
        ("cpu", "bf16", 64, 2, True),
        ("cpu", "bf16", 1280, 3, False),
        ("cpu", "fp32", 1280, 4, True),
        ("cpu", "fp32", 1248, 4, False),
        ("cuda", "fp32", 64, 3, True),
    ],
)
def test_when_threads_do_not_matter(
    device: str, precision: str, input_px: int, num_threads: int, expected: bool
) -> None:
    assert is_thread_free(torch.device(device), precision, input_px, num_threads) is expected


def test_threads_are_a_power_of_two_unless_told() -> None:
    counts = [stable_num_threads(number) for number in range(1, 18)]
    assert counts == [1, 2, 2, 4, 4, 4, 4, 8, 8, 8, 8, 8, 8, 8, 8, 16, 16]


def test_threads_are_set(colour_bundle: Path) -> None:
    torch.set_num_threads(3)
    Segmenter.load(colour_bundle)
    assert torch.get_num_threads() == 2
    Segmenter.load(colour_bundle, num_threads=3)
    assert torch.get_num_threads() == 3


def test_auto_precision_on_the_cpu(colour_bundle: Path) -> None:
    expected = "bf16" if has_native_bf16() else "fp32"
    assert Segmenter.load(colour_bundle, device="cpu").precision == expected
    with pytest.raises(SegmentError, match="fp16"):
        Segmenter.load(colour_bundle, device="cpu", precision="fp16")


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_device_that_is_not_there(colour_bundle: Path, device: str) -> None:
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(SegmentError, match=f"device = '{device}' .* available: cpu"):
        Segmenter.load(colour_bundle, device=device)


def test_a_config_with_replacements(colour_bundle: Path) -> None:
    config = SegmentConfig(window_px=128, batch_size=3)
    segmenter = Segmenter.load(colour_bundle, config, batch_size=2)
    assert segmenter.config == dataclasses.replace(config, batch_size=2)
    assert (segmenter.window_px, segmenter.margin_px) == (128, 16)
    assert segmenter.stats.batch_size == 2
    with pytest.raises(TypeError, match="batches"):
        Segmenter.load(colour_bundle, batches=2)


@pytest.mark.parametrize("name", ["window_px", "batch_size", "num_threads"])
def test_settings_out_of_range(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} = 0; expected at least 1"):
        SegmentConfig(**{name: 0})


def test_windows_must_fit_the_network(unet_bundle: Path) -> None:
    with pytest.raises(SegmentError, match="window_px = 100 with margin_px = 32"):
        Segmenter.load(unet_bundle, window_px=100)


@pytest.mark.parametrize(
    ("pixels", "valid", "message"),
    [
        (np.zeros((4, 64, 64), np.uint8), np.ones((64, 64), bool), "3 bands"),
        (np.zeros((3, 64, 64), np.uint16), np.ones((64, 64), bool), "uint16"),
        (np.zeros((64, 64), np.uint8), np.ones((64, 64), bool), "expected uint8 with 3"),
        (np.zeros((3, 64, 64), np.uint8), np.ones((64, 32), bool), "valid is bool of shape"),
        (np.zeros((3, 64, 64), np.uint8), np.ones((64, 64), np.uint8), "valid is uint8"),
        (np.zeros((3, 64, 64), np.uint8), np.ones((64, 64), bool), "whole number of cores"),
    ],
)
def test_arrays_that_do_not_fit(
    colour_bundle: Path, pixels: np.ndarray, valid: np.ndarray, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Segmenter.load(colour_bundle).segment(pixels, valid)


# The seed network on real pixels.


def test_the_seed_finds_roofs_in_kampala(shared_data: Path, seed_bundle: Path) -> None:
    scene = shared_data / "scenes" / "kampala_a.tif"
    with rasterio.open(scene) as source:
        shape = (source.height // 2, source.width // 2)
        pixels = source.read(out_shape=(3, *shape), resampling=Resampling.average)
        transform = source.transform @ Affine.scale(2.0)
        labels = geopandas.read_file(scene.with_suffix(".geojson")).to_crs(source.crs)
    is_roof = rasterize(labels.geometry, shape, transform=transform).astype(bool)
    pixels = np.ascontiguousarray(pixels[:, :448, :704])
    is_roof = is_roof[96 : 448 - 96, 96 : 704 - 96]
    valid = np.ones(pixels.shape[1:], bool)
    segmenter = Segmenter.load(seed_bundle, window_px=256, margin_px=96)
    probability = segmenter.segment(pixels, valid)
    assert probability[is_roof].mean() > 170
    assert probability[~is_roof].mean() < 50
    full = Segmenter.load(seed_bundle, window_px=256, margin_px=96, precision="fp32")
    difference = np.abs(full.segment(pixels, valid).astype(int) - probability)
    assert difference.mean() < 0.5
