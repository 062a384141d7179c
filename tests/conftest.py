"""Fixtures and settings that all tests share."""

import os
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


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real imagery and labels beside the repository; skips where there is none."""
    if not (SHARED_DATA / "scenes").is_dir():
        pytest.skip("no real imagery: ../shared/data does not exist beside the repository")
    return SHARED_DATA
