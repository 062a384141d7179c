"""Reading onto the world grid by file format and projection, beside GDAL's warper, in Mpx/s.

    python benchmarks/reading.py [--size 8192] [--repeats 3]

One drawn image as cloud-optimised GeoTIFF in JPEG (quality 90), DEFLATE and ZSTD, each in a UTM
zone (pixels only shift), in EPSG:4326 and in EPSG:3857 (pixels are warped). Each measurement is one
call of `benchmarks/warp.py`: tiles of 4096 px with a margin of 128 px, read in a process of its
own, in turns.
"""

import argparse
import itertools
import statistics
import subprocess
import sys
from pathlib import Path

import rasterio
import rasterio.shutil
from results import RESULTS, ROOT, facts_as_text, machine_facts, markdown_table, write_part

sys.path.insert(0, str(ROOT / "tests"))
from synthetic import place, write_large_town

PROJECTIONS = ("EPSG:32636", "EPSG:4326", "EPSG:3857")
FORMATS = ("JPEG", "DEFLATE", "ZSTD")
METHODS = ("everyroof", "WarpedVRT")
CORNER_LON_DEG, CORNER_LAT_DEG, GSD_M = 32.6, 0.4, 0.3
HEADER = (
    "", "in", "MB", "Everyroof Mpx/s", "GDAL Mpx/s", "times GDAL", "core s, Everyroof",
    "core s, GDAL",
)  # fmt: skip


def draw_images(folder: Path, size_px: int) -> dict[tuple[str, str], Path]:
    """The images by format and projection, made once."""
    folder.mkdir(parents=True, exist_ok=True)
    images = {
        (form, crs): folder / f"{size_px}_{crs[5:]}_{form}.tif"
        for crs, form in itertools.product(PROJECTIONS, FORMATS)
    }
    if all(path.exists() for path in images.values()):
        return images
    source = folder / "source.tif"
    write_large_town(source, size_px, compress="none")
    for crs in PROJECTIONS:
        with rasterio.open(source, "r+") as file:
            file.crs = crs
            file.transform = place(crs, CORNER_LON_DEG, CORNER_LAT_DEG, GSD_M)
        for form in FORMATS:
            options = {"QUALITY": 90} if form == "JPEG" else {"PREDICTOR": "YES"}
            rasterio.shutil.copy(
                source, images[form, crs], driver="COG", COMPRESS=form, BLOCKSIZE=512, **options
            )
    source.unlink()
    return images


def measure(image: Path, method: str) -> tuple[float, float]:
    """Mpx/s and core seconds of reading all tiles once."""
    script = str(Path(__file__).parent / "warp.py")
    command = [sys.executable, script, str(image), "--method", method]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    wall_s, cpu_s, _, mpx, *_ = (float(word) for word in done.stdout.split())
    return mpx / wall_s, cpu_s


def main() -> None:
    """Measure all images in turns and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=ROOT / ".peers" / "reading")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    facts, rows = machine_facts(), []
    for (form, crs), image in draw_images(args.folder, args.size).items():
        turns = [[measure(image, method) for method in METHODS] for _ in range(args.repeats)]
        ours, gdal = (
            [statistics.median(values) for values in zip(*runs, strict=True)]
            for runs in zip(*turns, strict=True)
        )
        ratio = statistics.median(turn[0][0] / turn[1][0] for turn in turns)
        speeds = (f"{ours[0]:.0f}", f"{gdal[0]:.0f}", f"{ratio:.1f}")
        megabytes = f"{image.stat().st_size / 1e6:.0f}"
        rows.append((f"COG {form}", crs, megabytes, *speeds, f"{ours[1]:.2f}", f"{gdal[1]:.2f}"))
        print(*rows[-1], file=sys.stderr, flush=True)
    text = (
        f"# Reading\n\n{facts_as_text(facts)}\n{args.size} px square, 3 bands, medians of "
        f"{args.repeats} turns.\n\n{markdown_table(HEADER, rows)}"
    )
    write_part(args.results, "reading", text, {"machine": facts, "rows": rows})
    print(text)


if __name__ == "__main__":
    main()
