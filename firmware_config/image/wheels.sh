#!/bin/sh
# usage: wheels.sh DIRECTORY
# The service and what it needs, as wheels for the image's Python; built here, so that the
# image holds no compiler.
set -eu
directory=$1
python=.venv/bin/python

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || {
    echo "image: .venv has $("$python" -V), and Debian 12 has Python 3.11: the wheels would not fit" >&2
    exit 3
}
mkdir -p "$directory"
PIP_CONSTRAINT=$(pwd)/constraints.txt
PIP_BUILD_CONSTRAINT=$PIP_CONSTRAINT
PIP_DISABLE_PIP_VERSION_CHECK=1
# No debugging information: it names the directory that pip built in.
CFLAGS=-g0
export PIP_CONSTRAINT PIP_BUILD_CONSTRAINT PIP_DISABLE_PIP_VERSION_CHECK CFLAGS

# A copy, because building leaves its traces beside pyproject.toml.
git ls-files -z | tar -c --null -T - | tar -x -C "$directory" --one-top-level=source
"$python" -m pip wheel -q --use-pep517 -w "$directory" "$directory/source"
rm -rf "$directory/source"
# pip installs the wheels in the image, and does not stay there.
cp -r "$("$python" -c 'import pathlib, pip; print(pathlib.Path(pip.__file__).parent)')" "$directory/pip"
