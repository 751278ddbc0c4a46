#!/bin/sh
# usage: install.sh ROOT
# Puts the files of firmware_config where a Debian system has them, and starts what is to be
# started.  BOARD and VERSION are those of build.sh; ROOT may be / of a Debian 12, too.
set -eu
root=${1%/}
config=firmware_config

# Each room of firmware_config, and its place.
put() {
    mkdir -p "$root/$2"
    # shellcheck disable=SC2086 # a pattern
    cp -r --no-preserve=ownership "$config"/$1 "$root/$2"
}
put 'systemd/*' usr/lib/systemd/system
put 'sysusers/*' usr/lib/sysusers.d
put 'tmpfiles/*' usr/lib/tmpfiles.d
put 'programs/*' usr/lib/ebbtide
put 'modules-load/*' usr/lib/modules-load.d
put 'journal/*' usr/lib/systemd/catalog
put 'udev/*.rules' usr/lib/udev/rules.d
put 'boards' usr/share/ebbtide
put 'prometheus' usr/share/ebbtide
put 'default.toml' usr/share/ebbtide
cp "$config/udev/bays/$BOARD.rules" "$root/usr/lib/udev/rules.d/61-ebbtide-bays.rules"
mkdir -p "$root/etc/ebbtide"
sed "s/^board = .*/board = \"$BOARD\"/" "$config/default.toml" >"$root/etc/ebbtide/ebbtide.toml"
cp -r --no-preserve=ownership "$config/image/root/." "$root"
