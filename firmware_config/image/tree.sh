#!/bin/sh
# Prints a sum over all of this tree that goes into an image, as it lies here now; beside an image
# stands the one that it was built of.
set -eu
cd "$(dirname "$0")/../.."
# shellcheck disable=SC2016 # for the shell inside
# Root builds in a tree that may be another user's, which git minds otherwise.
git -c safe.directory="$(pwd)" ls-files -z --cached --others --exclude-standard -- \
    appliance firmware_config pyproject.toml constraints.txt |
    LC_ALL=C sort -uz |
    xargs -0 sh -c '
        for file; do
            if [ -x "$file" ]; then echo "program $file"; fi
            if [ -e "$file" ]; then sha256sum "$file"; fi
        done' sh |
    sha256sum | cut -d ' ' -f 1
