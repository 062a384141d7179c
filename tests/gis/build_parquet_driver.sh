#!/usr/bin/env bash
# Builds GDAL's Parquet driver for the GDAL that Debian's QGIS uses: Debian leaves it out, since it
# has no Arrow; QGIS's own installers have it. Source: Debian's, of the very version installed;
# Arrow: the C++ library inside a pyarrow wheel, of the age of that GDAL.
# Usage: build_parquet_driver.sh FOLDER PIP; leaves FOLDER/ogr_Parquet.so and Arrow's libraries.
set -euo pipefail
folder="$(mkdir -p "$1" && cd "$1" && pwd)"
pip="$(realpath "$2")"
PYARROW=14.0.2
PYARROW_SHA256=32356bfb58b36059773f49e4e214996888eeea3a08893e7dbde44753799b2a02
SOURCES=(driver dataset layer writerdataset writerlayer datasetlayer)

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cd "$work"

# A list of sources of our own: the system's may have none, and stays as it is.
mkdir -p parts lists/partial
cat >parts/source.sources <<END
Types: deb-src
URIs: $(apt-get indextargets --format '$(REPO_URI)' 'Component: main' | grep -v security | sort -u | head -n 1)
Suites: $(. /etc/os-release && echo "$VERSION_CODENAME")
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
END
own_apt() {
    apt-get -qq -o APT::Sandbox::User=root -o Dir::Etc::sourcelist=/dev/null \
        -o Dir::Etc::sourceparts="$work/parts" -o Dir::State::lists="$work/lists" "$@"
}
version="$(dpkg-query --show --showformat '${source:Version}' 'libgdal[0-9]*' | head -n 1)"
own_apt update
own_apt source --download-only "gdal=$version"
tar -xf gdal_*.orig.tar.*
gdal="$(echo "$work"/gdal-*/)"

# Headers that the source has only once it is configured.
headers() { apt-get -qq -o APT::Sandbox::User=root download libgdal-dev; }
headers || { apt-get -qq update && headers; }
dpkg -x libgdal-dev_*.deb dev
mkdir -p configured/gdal_version_full
cp dev/usr/include/gdal/gdal_version.h configured/gdal_version_full/

"$pip" download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --python-version 3.11 --platform manylinux_2_28_x86_64 "pyarrow==$PYARROW"
echo "$PYARROW_SHA256  $(echo pyarrow-*.whl)" | sha256sum --check --strict --quiet
/usr/bin/python3 -m zipfile --extract pyarrow-*.whl .
cp pyarrow/lib{arrow,arrow_acero,arrow_dataset,parquet}.so.* "$folder"

ogr="$gdal/ogr/ogrsf_frmts"
for name in "${SOURCES[@]}"; do
    echo "$ogr/parquet/ogrparquet$name.cpp"
done | xargs --max-procs 2 --replace g++ -w -std=c++17 -O1 -fPIC -c {} \
    -DGDAL_COMPILATION -DGDAL_USE_ARROWDATASET -DPLUGIN \
    -I"$gdal/port" -I"$gdal/gcore" -I"$gdal/ogr" -I"$ogr" -I"$ogr/generic" -I"$ogr/mem" \
    -I"$ogr/parquet" -I"$ogr/arrow_common" -Idev/usr/include/gdal -Iconfigured -Ipyarrow/include
# shellcheck disable=SC2016  # $ORIGIN is the linker's: the folder can be moved.
g++ -shared -o "$folder/ogr_Parquet.so" ogrparquet*.o "$folder"/lib*.so.* \
    "$(ldconfig -p | sed -n 's/.* => \(.*libgdal\.so\.[0-9]*\)$/\1/p' | head -n 1)" \
    -Wl,-rpath,'$ORIGIN'
