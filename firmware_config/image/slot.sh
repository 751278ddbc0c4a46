#!/bin/sh
# usage: slot.sh ROOT IMAGE
# The root file system as it lies in a slot.  gzip, because GRUB reads the kernel from here
# and knows no other compression that is as small.
set -eu
mksquashfs "$1" "$2" -quiet -no-progress -comp gzip -Xcompression-level 6 -no-exports -noappend
size=$(stat -c %s "$2")
limit=$((512 * 1024 * 1024))
if [ "$size" -gt "$limit" ]; then
    echo "image: the root takes $size bytes, and a slot has $limit" >&2
    exit 1
fi
