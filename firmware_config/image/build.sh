#!/bin/sh
# Builds the firmware image and the bundle that updates to it; called by `make image`.
#
#   BOARD    firmware_config/boards/BOARD.toml and udev/bays/BOARD.rules (qemu-q35)
#   VERSION  of the image (that of pyproject.toml)
#   KEYS     directory with authority.pem, signer.pem and signer.key, which sign updates
#            (a development authority made on the spot)
#   SOURCES  file with apt's sources of Debian 12 (those of this machine)
set -eu
cd "$(dirname "$0")/../.."

: "${BOARD:=qemu-q35}"
: "${VERSION:=$(sed -n 's/^version = "\(.*\)"$/\1/p' pyproject.toml)}"
: "${KEYS:=}"
: "${SOURCES:=}"
recipe=firmware_config/image
products=build/image
work=$products/work
name=ebbtide-$VERSION-$BOARD

if [ "$(id -u)" != 0 ]; then
    echo 'image: the root file system is made by root; run: sudo sh setup image' >&2
    exit 3
fi
for file in "firmware_config/boards/$BOARD.toml" "firmware_config/udev/bays/$BOARD.rules"; do
    if [ ! -e "$file" ]; then
        echo "image: there is no $file" >&2
        exit 2
    fi
done

# Root builds in a tree that may be another user's, which git minds otherwise.
GIT_CONFIG_COUNT=1
GIT_CONFIG_KEY_0=safe.directory
GIT_CONFIG_VALUE_0=$(pwd)
export GIT_CONFIG_COUNT GIT_CONFIG_KEY_0 GIT_CONFIG_VALUE_0

# Whatever is dated is dated to the commit, so that the same sources make the same image.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
BUILD_ID=$(git describe --always --dirty --abbrev=12)
LC_ALL=C.UTF-8
TZ=UTC
export BOARD VERSION SOURCE_DATE_EPOCH BUILD_ID LC_ALL TZ
umask 022

began=$(date +%s)
say() {
    echo "image: $(($(date +%s) - began)) s: $*"
}

tree=$(sh $recipe/tree.sh)
rm -rf "$work"
mkdir -p "$work"
if [ -z "$KEYS" ]; then
    KEYS=$products/development-keys
    sh $recipe/development_keys.sh "$KEYS"
fi
say "wheels of the service"
sh $recipe/wheels.sh "$work/wheels"
say "root file system"
sh $recipe/root.sh "$work/root" "$work/wheels" "$KEYS/authority.pem" "$SOURCES"
say "slot"
sh $recipe/slot.sh "$work/root" "$work/slot.img"
say "disk"
sh $recipe/disk.sh "$work/slot.img" "$work/disk.img"
say "bundle"
sh $recipe/bundle.sh "$work/slot.img" "$KEYS" "$work/bundle.raucb"
mv "$work/disk.img" "$products/$name.img"
mv "$work/bundle.raucb" "$products/$name.raucb"
cp "$work/root/usr/share/ebbtide/packages" "$products/$name.packages"
echo "$tree" >"$products/$name.tree"
rm -rf "$work"
(cd "$products" && sha256sum "$name.img" "$name.raucb" >"$name.sha256")
say "done"
du -h --apparent-size "$products/$name.img" "$products/$name.raucb"
du -h "$products/$name.img"
