#!/bin/sh
# usage: current.sh BOARD
# Succeeds if the newest image for the board is of this tree; else says why not.
set -eu
cd "$(dirname "$0")/../.."
# shellcheck disable=SC2012 # its names are ours
image=$(ls -t build/image/ebbtide-*-"$1".img 2>/dev/null | head -n 1)
if [ -z "$image" ]; then
    echo "image: there is none yet for $1"
    exit 1
fi
if [ "$(cat "${image%.img}.tree" 2>/dev/null)" != "$(sh firmware_config/image/tree.sh)" ]; then
    echo "image: $image was not built of this tree as it is now"
    exit 1
fi
