"""How often neighbouring cores disagree at their seam about where neighbours are cut apart.

Each core is cut with what its own window sees around it (its reach). This prints how many
components differ from those of one cut of the whole raster, for several reaches: what one pays for
tiles that agree to the byte. (All windows see the same probabilities here; in a job each sees its
own, which differ by some hundredths far out in its margin.)

    python benchmarks/cut_seams.py BUNDLE [IMAGE] [--window 1024] [--size 4096]

Without an image, a drawn town. A file of probabilities (.npy, uint8, two axes) may stand for both.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from geo.pixel_window import PixelWindow
from geo.watershed import cut_valleys
from model.cores import CoreProbability, cut_cores, join_cores

Levels = npt.NDArray[np.uint8]
REACHES_PX = (0, 16, 32, 64, 128, 256)


def segment_scene(arguments: argparse.Namespace) -> Levels:
    """Probabilities of the upper left of an image as it is, or of a drawn town."""
    import rasterio

    from model.drawn_towns import draw_scene
    from model.segment import Segmenter

    segmenter = Segmenter.load(arguments.path, window_px=arguments.window)
    if arguments.image is None:
        scene = draw_scene(0, arguments.size, segmenter.bundle.meta.gsd_m)
        pixels = np.moveaxis(scene.image, -1, 0)
    else:
        with rasterio.open(arguments.image) as image:
            shape = (3, min(arguments.size, image.height), min(arguments.size, image.width))
            window = rasterio.windows.Window(0, 0, shape[2], shape[1])
            pixels = image.read((1, 2, 3), window=window)
    margin = segmenter.margin_px
    height, width = (-(-side // arguments.window) * arguments.window for side in pixels.shape[1:])
    framed = np.zeros((3, height + 2 * margin, width + 2 * margin), np.uint8)
    valid = np.zeros(framed.shape[1:], bool)
    inner = np.s_[margin : margin + pixels.shape[1], margin : margin + pixels.shape[2]]
    framed[:, *inner], valid[inner] = pixels, pixels.any(axis=0)
    return segmenter.segment(framed, valid)


def cut_by_core(levels: Levels, side: int, reach: int, floor: int, depth: int) -> Levels:
    """Every core with its surroundings, alone."""
    height, width = levels.shape
    padded = np.pad(levels, ((reach, side + reach), (reach, side + reach)))
    cores = [
        CoreProbability(
            PixelWindow(col, row, side, side),
            padded[row : row + side + 2 * reach, col : col + side + 2 * reach].copy(),
        )
        for row in range(0, height, side)
        for col in range(0, width, side)
    ]
    shape = (-(-height // side) * side, -(-width // side) * side)
    return join_cores(cut_cores(cores, floor=floor, depth=depth), shape)[:height, :width]


def count_equal(one: Levels, other: Levels, floor: int) -> tuple[int, int]:
    """Components of one raster, and how many of them are components of the other as they are."""
    (first, num_first), (second, _) = ndimage.label(one >= floor), ndimage.label(other >= floor)
    is_any = (first > 0) | (second > 0)
    pairs, num_shared = np.unique(
        np.stack([first[is_any], second[is_any]]), axis=1, return_counts=True
    )
    sizes = np.bincount(first.ravel()), np.bincount(second.ravel())
    is_pair = (pairs > 0).all(axis=0)
    is_equal = (num_shared == sizes[0][pairs[0]]) & (num_shared == sizes[1][pairs[1]])
    return num_first, int((is_pair & is_equal).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path", type=Path, help="bundle, or probabilities (.npy)")
    parser.add_argument("image", type=Path, nargs="?")
    parser.add_argument("--window", type=int, default=1024)
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--threshold", type=float, default=0.2)
    parser.add_argument("--depth", type=float, default=0.35)
    arguments = parser.parse_args()
    is_array = arguments.path.suffix == ".npy"
    levels = np.load(arguments.path) if is_array else segment_scene(arguments)
    floor, depth = round(255 * arguments.threshold), round(255 * arguments.depth)
    whole = cut_valleys(levels, floor=floor, depth=depth)
    print(f"{levels.shape[0]} x {levels.shape[1]} px, cores of {arguments.window} px")
    print(f"{'reach px':>9}{'components':>12}{'differ':>8}{'share':>9}")
    for reach in REACHES_PX:
        cut = cut_by_core(levels, arguments.window, reach, floor, depth)
        count, num_equal = count_equal(whole, cut, floor)
        print(f"{reach:>9}{count:>12}{count - num_equal:>8}{(count - num_equal) / count:>9.2%}")


if __name__ == "__main__":
    main()
