#!/bin/sh
# usage: settle.sh ROOT
# Last hand to the root file system: what is started, what the system calls itself, its
# initramfs, and nothing in it that differs from build to build.
set -eu
root=$1
config=firmware_config

inside() {
    chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
        SOURCE_DATE_EPOCH="$SOURCE_DATE_EPOCH" "$@"
}

inside systemd-sysusers
inside systemctl --quiet enable cdpd cdp-smart.socket cdp-panel cdp-exporter cdp-console@ttyS1 \
    ebbtide-works ebbtide-mark-good ebbtide-grow-state ebbtide-identity ebbtide-boot-memory ebbtide-catalog efi.automount \
    systemd-networkd systemd-resolved systemd-timesyncd
inside systemctl --quiet disable systemd-networkd-wait-online getty@tty1 e2scrub_reap
inside systemctl --quiet mask apt-daily.timer e2scrub_all.timer fstrim.timer smartmontools.service
inside cp /usr/share/systemd/tmp.mount /etc/systemd/system/tmp.mount
inside systemctl --quiet enable tmp.mount

cat >>"$root/usr/lib/os-release" <<END
VARIANT="Ebbtide appliance, $BOARD"
VARIANT_ID=$BOARD
IMAGE_ID=ebbtide-$BOARD
IMAGE_VERSION=$VERSION
BUILD_ID=$BUILD_ID
END
sed -i "s/@COMPATIBLE@/ebbtide-$BOARD/" "$root/etc/rauc/system.conf"
echo ebbtide >"$root/etc/hostname"
printf '127.0.0.1\tlocalhost\n127.0.1.1\tebbtide\n::1\tlocalhost\n' >"$root/etc/hosts"
printf 'Ebbtide %s \\n \\l\n' "$VERSION" >"$root/etc/issue"
ln -sf ../run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"
# Before it has heard of the time, no box believes that it is earlier than this.
touch -d "@$SOURCE_DATE_EPOCH" "$root/usr/lib/clock-epoch"
# Each box makes its own, on its state.
: >"$root/etc/machine-id"
rm -f "$root/etc/nvme/hostnqn" "$root/etc/nvme/hostid"

# The kernel by names that do not change, beside what boots it.
kernel=$(basename "$(echo "$root"/lib/modules/*)")
inside depmod "$kernel"
inside update-initramfs -c -k "$kernel"
mv "$root/boot/vmlinuz-$kernel" "$root/boot/vmlinuz"
mv "$root/boot/initrd.img-$kernel" "$root/boot/initrd.img"
cp "$config/image/grub/ebbtide.cfg" "$root/boot/ebbtide.cfg"
rm -f "$root"/initrd.img* "$root"/vmlinuz* "$root"/boot/*.old

# shellcheck disable=SC2016 # dpkg's variables
inside dpkg-query -W -f '${Package} ${Version}\n' >"$root/usr/share/ebbtide/packages"
mkdir -p "$root/efi" "$root/state"
# The box's /var is on its state, and is made by systemd-tmpfiles.
find "$root/var" -mindepth 1 -delete
find "$root/run" "$root/tmp" -mindepth 1 -delete
rm -f "$root"/etc/*- "$root/etc/.pwd.lock" "$root/etc/apt/sources.list"
rm -rf "$root/etc/apt/sources.list.d" "$root/root/.cache"
