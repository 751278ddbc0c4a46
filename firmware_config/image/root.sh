#!/bin/sh
# usage: root.sh ROOT WHEELS AUTHORITY SOURCES
# The root file system of a slot, in the directory ROOT.
set -eu
root=$1
wheels=$2
authority=$3
sources=$4
recipe=firmware_config/image

words() {
    sed 's/#.*//' "$1" | grep -o '[^ ]\+'
}

if [ -z "$sources" ]; then
    sources=$root.sources
    .venv/bin/python $recipe/sources.py /etc/apt >"$sources"
fi
set -f
options=
for pattern in $(words $recipe/left-out.list); do
    options="$options --dpkgopt=path-exclude=$pattern"
done
set +f

# dpkg's hooks would make an initramfs before our part of it is there.
export INITRD=No
# shellcheck disable=SC2086 # a list without spaces in its words
(set -f; exec mmdebstrap --quiet --mode=root --variant=essential --architectures=amd64 \
    --include="$(words $recipe/packages.list | paste -s -d ,)" \
    $options --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --aptopt='Acquire::Languages "none"' --aptopt='Acquire::Retries "5"' \
    --format=directory bookworm "$root" "$sources")
sh $recipe/install.sh "$root"
sh $recipe/service.sh "$root" "$wheels"
cp "$authority" "$root/usr/share/ebbtide/update-authority.pem"
sh $recipe/settle.sh "$root"
