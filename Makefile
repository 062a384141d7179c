# Everything runs in one virtual environment, made on first use and reused after that.
#   make test    tests                    make lint      format, lint, types, import contracts
#   make venv    the environment alone    make format    rewrite the sources in the house format
#   make test-flink  the tests on a real Flink cluster (fetches it: Java 11 or 17, Maven)
#   make chromium    Debian's Chromium, in which the tests of the page run
#   make test-qgis   the tests in a real QGIS (installs Debian's, builds its Parquet driver)
#   make demo    draws a town, finds its buildings, says how many were right
#   make bench   every benchmark into benchmarks/results (hours; BENCH_ARGS="--parts chain trace")
#   make bench-peers  beside geo-inference, geoai, raster-vision and GeoDeep (installs them)
#   make weights trains the weights that ship (hours on a CPU), from configs/train/sources.yaml
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The stamp carries a hash of what decides the environment, so that a checkout that only touches
# file times installs nothing, and switching between two branches does.
STAMP := $(VENV)/.installed-$(shell cat pyproject.toml constraints.txt | cksum | tr ' ' '-')
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?=
PEERS_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help venv test chromium flink test-flink qgis test-qgis lint format demo bench bench-peers weights constraints clean

help:
	@sed -n '/^# *make/s/^# *//p' Makefile

venv: $(STAMP)

$(STAMP):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[dev]'
	rm -f $(VENV)/.installed-*
	touch $@

test: $(STAMP) chromium
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# The browser that drives the page of `everyroof view`; without it those tests skip, and say so.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || \
		apt-get install -y -qq chromium >/dev/null 2>&1 || \
		echo 'no chromium, and apt-get cannot install it: the tests of the page will skip'

# Flink and Beam's job server, as the pom pins them; each jar is checked against its hash.
FLINK := .flink
FLINK_STAMP := $(FLINK)/.fetched-$(shell cat tests/flink/pom.xml tests/flink/checksums.txt | cksum | tr ' ' '-')

flink: $(FLINK_STAMP)

$(FLINK_STAMP):
	for tool in java mvn; do command -v $$tool >/dev/null || missing=yes; done; \
		test -z "$$missing" || apt-get install -y -qq openjdk-17-jre-headless maven || \
		{ echo 'make flink needs java (11 or 17) and mvn; install both'; exit 1; }
	rm -rf $(FLINK)
	mvn --batch-mode --quiet -f tests/flink/pom.xml dependency:copy-dependencies \
		-DincludeScope=runtime -DoutputDirectory='$(CURDIR)/$(FLINK)'
	cd $(FLINK) && sha256sum --check --strict --quiet ../tests/flink/checksums.txt
	touch $@

test-flink: $(STAMP) $(FLINK_STAMP)
	$(BIN)/python -m pytest -m flink tests/flink $(PYTEST_ARGS)

# Debian's QGIS, and the Parquet driver that Debian's GDAL lacks.
QGIS := .qgis
QGIS_STAMP := $(QGIS)/.built-$(shell cat tests/gis/build_parquet_driver.sh | cksum | tr ' ' '-')

qgis: $(QGIS_STAMP)

$(QGIS_STAMP): | $(STAMP)
	{ /usr/bin/python3 -c 'import qgis.core' 2>/dev/null && command -v g++ >/dev/null; } || \
		{ apt-get update -qq && apt-get install -y -qq --no-install-recommends python3-qgis g++; } || \
		{ echo 'make qgis needs QGIS with its Python bindings, and g++; install both'; exit 1; }
	rm -rf $(QGIS)
	tests/gis/build_parquet_driver.sh $(QGIS) $(BIN)/pip
	touch $@

test-qgis: $(STAMP) $(QGIS_STAMP)
	$(BIN)/python -m pytest -m qgis tests/gis $(PYTEST_ARGS)

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

demo: $(STAMP)
	$(BIN)/everyroof demo $(DEMO_ARGS)

bench: $(STAMP)
	$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)

bench-peers: $(STAMP)
	$(BIN)/python benchmarks/peers.py $(PEERS_ARGS)

weights: weights.safetensors

train.pack.zip: configs/train/sources.yaml | $(STAMP)
	$(BIN)/everyroof pack $< $@ --sheets training/sheets

training/base/everyroof.safetensors: configs/train/base.yaml | train.pack.zip
	$(BIN)/everyroof train $< --resume

training/strong/everyroof.safetensors: configs/train/strong.yaml training/base/everyroof.safetensors
	$(BIN)/everyroof train $< --resume

training/mean.safetensors: training/base/everyroof.safetensors training/strong/everyroof.safetensors
	$(BIN)/everyroof bundle average $^ --shares 0.65,0.35 --pack train.pack.zip --out $@ --overwrite

training/further/everyroof.safetensors: configs/train/further.yaml training/mean.safetensors
	$(BIN)/everyroof train $< --resume

# The threshold that is best at IoU 0.5 to 0.9 on average; at 0.5 alone outlines come out too wide.
training/final.safetensors: training/further/everyroof.safetensors training/mean.safetensors
	$(BIN)/everyroof bundle average $^ --out training/final_mean.safetensors --overwrite
	$(BIN)/everyroof bundle change training/final_mean.safetensors $@ --threshold 0.35 --overwrite

training/held_out/places.yaml: | train.pack.zip
	$(BIN)/everyroof places train.pack.zip --out training/held_out

weights.safetensors: training/final.safetensors training/held_out/places.yaml
	$(BIN)/everyroof calibrate $< --places training/held_out/places.yaml --out $@ --overwrite

# The newest versions that fit together, resolved without installing anything.
constraints: $(STAMP)
	$(BIN)/python -m pip install --quiet --dry-run --ignore-installed --report .constraints.json \
		--editable '.[dev]'
	$(BIN)/python -c 'import json; \
		found = [r["metadata"] for r in json.load(open(".constraints.json"))["install"]]; \
		lines = open("constraints.txt").read().splitlines(keepends=True); \
		header = [line for line in lines if line.startswith("#")]; \
		pins = [line.rstrip() for line in lines if ";" in line and not line.startswith("#")]; \
		kept = {pin.split("==")[0] for pin in pins} | {"everyroof"}; \
		pins += [p["name"] + "==" + p["version"] for p in found if p["name"] not in kept]; \
		pins.sort(key=str.lower); \
		open("constraints.txt", "w").write("".join(header) + "\n".join(pins) + "\n")'
	rm -f .constraints.json
	git --no-pager diff --stat -- constraints.txt

clean:
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis \
		.import_linter_cache
	find geo model pipeline tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
