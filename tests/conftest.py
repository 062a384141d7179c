"""Fixtures and settings that all tests share."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# One thread each for the numeric libraries: the machines that run the tests have few cores, and
# workers in processes of their own inherit it. Set before anything imports numpy or torch.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")

settings.register_profile("laptop", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None)
settings.load_profile("ci" if os.environ.get("CI") else "laptop")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SEED_WEIGHTS = "seed-unet-resnet18.safetensors"


@pytest.fixture(autouse=True)
def _restore_torch_threads() -> Iterator[None]:
    """A test finds torch with as many threads as if it ran alone: segmenters set the number."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else int(os.environ["OMP_NUM_THREADS"])
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real imagery and labels beside the repository; skips where there is none."""
    if not (SHARED_DATA / "scenes").is_dir():
        pytest.skip("no real imagery: ../shared/data does not exist beside the repository")
    return SHARED_DATA


@pytest.fixture(scope="session")
def colour_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real, tiny bundle that finds the roofs of drawn towns to the pixel (0.3 m)."""
    # Here, since torch takes seconds to import and most tests do without.
    import synthetic

    from model.colour_bundle import save_colour_bundle

    path = tmp_path_factory.mktemp("bundles") / "colour.safetensors"
    return save_colour_bundle(path, roof_colours=[synthetic.ROOF_RGB])


@pytest.fixture(scope="session")
def seed_bundle(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of the seed weights; skips where they are not there."""
    weights = shared_data / SEED_WEIGHTS
    if not weights.exists():
        pytest.skip(f"no seed weights: ../shared/data/{SEED_WEIGHTS} does not exist")
    from model.bundle import BundleMeta, read_state_dict, save_bundle
    from model.unet import NetworkConfig

    path = tmp_path_factory.mktemp("bundles") / "seed.safetensors"
    meta = BundleMeta(
        name="seed",
        network=NetworkConfig(encoder="resnet18"),
        bands=("red", "green", "blue"),
        mean=(0.45, 0.45, 0.45),
        std=(0.25, 0.25, 0.25),
        gsd_m=0.3,
        erosion_px=1,
        provenance={"imported_from": SEED_WEIGHTS},
    )
    save_bundle(path, meta, read_state_dict(weights))
    return path
