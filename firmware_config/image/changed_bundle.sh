#!/bin/sh
# usage: changed_bundle.sh BUNDLE OTHER-BUNDLE KEYS COMMAND [WORD...]
# Makes OTHER-BUNDLE of BUNDLE after `COMMAND WORD... ROOT` has changed its root file system: an
# update for trying out updates, in a tenth of the time of a build.  Signed with KEYS.
set -eu
bundle=$1
other=$2
keys=$3
shift 3
work=$(mktemp -d -p "$(dirname "$other")")
trap 'rm -rf "$work"' EXIT

said=$(rauc info --keyring="$keys/authority.pem" --output-format=shell "$bundle")
field() {
    echo "$said" | sed -n "s/^$1='\(.*\)'$/\1/p"
}
unsquashfs -quiet -no-progress -d "$work/bundle" "$bundle"
unsquashfs -quiet -no-progress -d "$work/root" "$work/bundle/slot.img"
"$@" "$work/root"
mksquashfs "$work/root" "$work/slot.img" -quiet -no-progress -comp gzip -Xcompression-level 1 -no-exports
VERSION=$(sed -n 's/^IMAGE_VERSION=//p' "$work/root/usr/lib/os-release")
BUILD_ID=$(sed -n 's/^BUILD_ID=//p' "$work/root/usr/lib/os-release")
BOARD=$(field RAUC_MF_COMPATIBLE)
BOARD=${BOARD#ebbtide-}
export VERSION BUILD_ID BOARD
rm -rf "$work/bundle"
sh "$(dirname "$0")/bundle.sh" "$work/slot.img" "$keys" "$work/other.raucb"
mv "$work/other.raucb" "$other"
