#!/bin/sh
# usage: disk.sh SLOT IMAGE
# The whole disk: an EFI partition with GRUB, two slots of which A is filled, and the state.
# Identifiers are fixed here, so that the same slot makes the same disk; each box gives itself
# others at its first start.
set -eu
slot=$1
image=$2
recipe=firmware_config/image
parts=$(dirname "$image")
mebi=$((1024 * 1024))

# Partition, in MiB: where it begins, and its size.
esp=1
esp_size=63
slot_a=64
slot_b=576
slot_size=512
state=1088
state_size=255
end=1344

truncate -s "${end}M" "$image"
sgdisk --clear --disk-guid=8e4cb1f0-7f0c-4d6a-9a0e-6f3b52c7a000 \
    --new="1:${esp}M:+${esp_size}M" --change-name=1:ebbtide-esp --typecode=1:ef00 \
    --partition-guid=1:8e4cb1f0-7f0c-4d6a-9a0e-6f3b52c7a001 \
    --new="2:${slot_a}M:+${slot_size}M" --change-name=2:ebbtide-slot-a --typecode=2:8300 \
    --partition-guid=2:8e4cb1f0-7f0c-4d6a-9a0e-6f3b52c7a002 \
    --new="3:${slot_b}M:+${slot_size}M" --change-name=3:ebbtide-slot-b --typecode=3:8300 \
    --partition-guid=3:8e4cb1f0-7f0c-4d6a-9a0e-6f3b52c7a003 \
    --new="4:${state}M:+${state_size}M" --change-name=4:ebbtide-state \
    --typecode=4:1d0f4b1c-41c8-4f6c-9b7e-4b2f0f5c7e04 \
    --partition-guid=4:8e4cb1f0-7f0c-4d6a-9a0e-6f3b52c7a004 \
    "$image" >/dev/null

place() {
    dd if="$1" of="$image" bs=1M seek="$2" conv=notrunc,sparse status=none
}

# GRUB with all its modules, and its settings beside it; it takes the disk that it came from.
grub-mkimage -O x86_64-efi -p /EFI/ebbtide -o "$parts/grub.efi" \
    part_gpt fat squash4 normal linux loadenv regexp probe test echo sleep boot reboot \
    halt efifwsetup efi_gop configfile ls cat minicmd
grub-editenv "$parts/grubenv" create
grub-editenv "$parts/grubenv" set "ORDER=A B" A_OK=1 A_TRY=0 B_OK=0 B_TRY=0
truncate -s "${esp_size}M" "$parts/esp"
mkfs.vfat -F 32 -n EBBTIDE-ESP -i 8e4cb1f0 --invariant "$parts/esp" >/dev/null
cp "$parts/grubenv" "$parts/grubenv.copy"
touch -d "@$SOURCE_DATE_EPOCH" "$parts/grub.efi" "$parts/grubenv" "$parts/grubenv.copy"
MTOOLS_SKIP_CHECK=1
export MTOOLS_SKIP_CHECK
mmd -i "$parts/esp" ::EFI ::EFI/BOOT ::EFI/ebbtide
mcopy -m -i "$parts/esp" "$parts/grub.efi" ::EFI/BOOT/BOOTX64.EFI
cp "$recipe/grub/grub.cfg" "$parts/grub.cfg"
touch -d "@$SOURCE_DATE_EPOCH" "$parts/grub.cfg"
mcopy -m -i "$parts/esp" "$parts/grub.cfg" "$parts/grubenv" "$parts/grubenv.copy" ::EFI/ebbtide/

truncate -s "${state_size}M" "$parts/state"
E2FSPROGS_FAKE_TIME=$SOURCE_DATE_EPOCH mke2fs -q -t ext4 -b 4096 -T default -J size=16 -L ebbtide-state \
    -U 8e4cb1f0-7f0c-4d6a-9a0e-6f3b52c7a005 \
    -E hash_seed=8e4cb1f0-7f0c-4d6a-9a0e-6f3b52c7a006,lazy_itable_init=0 "$parts/state"

place "$parts/esp" "$esp"
place "$slot" "$slot_a"
place "$parts/state" "$state"
if [ "$(stat -c %s "$image")" != $((end * mebi)) ]; then
    echo 'image: the parts do not fit on the disk' >&2
    exit 1
fi
