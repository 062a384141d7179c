"""Rows a second, peak memory and size of every export of a dataset.

Run: python benchmarks/export.py OUT [--formats pmtiles,fgb] [--folder DIR] [--tippecanoe PROGRAM]

Each export runs in a process of its own, whose peak memory (resident, with the interpreter and the
libraries) is the system's figure. With --tippecanoe, the first 100,000 footprints are also drawn by
that program and by GDAL, in the same zooms, to compare.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]

FORMATS = {
    "parquet": "a.parquet",
    "gpkg": "a.gpkg",
    "fgb": "a.fgb",
    "geojsonseq": "a.geojsonl",
    "open-buildings": "csv",
    "overture": "overture.parquet",
    "pmtiles": "a.pmtiles",
}
_RUN = """
import json, resource, sys, time
from geo.dataset import open_dataset
from geo.query import Query
from pipeline.export_dataset import export_dataset
out, target, kind, limit = sys.argv[1:5]
query, start = Query(limit=int(limit) or None), time.perf_counter()
done = export_dataset(open_dataset(out), query, target, kind)
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"rows": done.num_rows, "bytes": done.num_bytes,
    "wall_s": time.perf_counter() - start, "cpu_s": used.ru_utime + used.ru_stime,
    "peak_mb": used.ru_maxrss / 1024}))
"""
COMPARED_ROWS = 100_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("--formats", default=",".join(FORMATS))
    parser.add_argument("--folder", help="where to write; a temporary folder by default")
    parser.add_argument("--tippecanoe", help="path of the program, to compare with")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        print("format           rows/s  CPU s per 1M rows  peak MB  bytes/row")
        for kind in arguments.formats.split(","):
            show(kind, run_export(arguments.out, Path(folder) / FORMATS[kind], kind))
        if arguments.tippecanoe:
            compare_tilers(arguments.out, Path(folder), arguments.tippecanoe)


def run_export(out: str, target: Path, kind: str, limit: int = 0) -> dict[str, float]:
    """One export in a process of its own."""
    command = [sys.executable, "-c", _RUN, out, str(target), kind, str(limit)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, cwd=root, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(name: str, found: dict[str, float]) -> None:
    per_million = 1e6 * found["cpu_s"] / found["rows"]
    print(
        f"{name:15s} {found['rows'] / found['wall_s']:8,.0f} {per_million:18.1f} "
        f"{found['peak_mb']:8.0f} {found['bytes'] / found['rows']:10.1f}",
        flush=True,
    )


def compare_tilers(out: str, folder: Path, tippecanoe: str) -> None:
    """CPU seconds of three tilers for zooms 14 and 15 of the same footprints."""
    print(f"tiles of {COMPARED_ROWS:,} footprints, zoom 14 and 15, CPU seconds")
    ours = run_export(out, folder / "few.pmtiles", "pmtiles", COMPARED_ROWS)
    print(f"  everyroof (and density at zoom 0 to 13)  {ours['cpu_s']:8.1f}")
    run_export(out, folder / "few.fgb", "fgb", COMPARED_ROWS)
    names = ("confidence", "area_in_meters", "full_plus_code", "id")
    flags = "-q -f -Z14 -z15 -l footprints -r1 --no-feature-limit --no-tile-size-limit"
    target = folder / "tippecanoe.pmtiles"
    command = [tippecanoe, *flags.split(), *(part for name in names for part in ("-y", name))]
    print(f"  tippecanoe {_cpu_s([*command, '-o', target, folder / 'few.fgb']):37.1f}")
    gdal = (
        "import pyogrio, sys; from pyogrio.raw import read_arrow, write_arrow\n"
        "meta, table = read_arrow(sys.argv[1], columns=sys.argv[3].split(','))\n"
        "write_arrow(table, sys.argv[2], driver='PMTiles', layer='footprints', crs='EPSG:4326',\n"
        " geometry_type='Polygon', geometry_name=meta['geometry_name'] or 'wkb_geometry',\n"
        " MINZOOM='14', MAXZOOM='15', MAX_FEATURES='1000000', MAX_SIZE='5000000')"
    )
    arguments = [folder / "few.fgb", folder / "gdal.pmtiles", ",".join(names)]
    print(f"  GDAL {_cpu_s([sys.executable, '-c', gdal, *arguments]):43.1f}")


def _cpu_s(command: list[object]) -> float:
    """CPU seconds of a program and its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(list(map(str, command)), check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
