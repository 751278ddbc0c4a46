#!/bin/sh
# usage: bundle.sh SLOT KEYS BUNDLE
# What updates a box to this version: the slot, signed; each block is checked as it is read.
set -eu
slot=$1
keys=$2
bundle=$3
content=$(dirname "$bundle")/bundle

mkdir "$content"
cp --reflink=auto "$slot" "$content/slot.img"
cat >"$content/manifest.raucm" <<END
[update]
compatible=ebbtide-$BOARD
version=$VERSION
build=$BUILD_ID

[bundle]
format=verity

[image.rootfs]
filename=slot.img
END
rm -f "$bundle"
rauc bundle --cert="$keys/signer.pem" --key="$keys/signer.key" --keyring="$keys/authority.pem" \
    "$content" "$bundle" >/dev/null
rauc info --keyring="$keys/authority.pem" "$bundle" >/dev/null
