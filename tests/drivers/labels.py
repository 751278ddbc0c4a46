"""Marks of partition tables, arrays and LVM, made by hand: no tool for them is needed."""

import struct
import uuid
import zlib
from pathlib import Path


def put(disk: Path, offset: int, data: bytes) -> None:
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def protective_mbr(blocks: int) -> bytes:
    entry = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, blocks - 1)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def put_gpt(disk: Path, block: int, size: int) -> None:
    """An empty GUID partition table with its backup. (UEFI specification, 5.3)"""
    last = size // block - 1
    table = bytes(128 * 128)
    table_blocks = -(-len(table) // block)

    def header(here: int, twin: int, entries: int) -> bytes:
        fields = struct.Struct("<8sIIIIQQQQ16sQIII")

        def packed(checksum: int) -> bytes:
            return fields.pack(
                b"EFI PART", 0x10000, 92, checksum, 0, here, twin, 2 + table_blocks,
                last - table_blocks - 1, uuid.UUID(int=7).bytes_le, entries, 128, 128,
                zlib.crc32(table),
            )  # fmt: skip

        return packed(zlib.crc32(packed(0)))

    put(disk, 0, protective_mbr(last + 1))
    put(disk, block, header(1, last, 2))
    put(disk, last * block, header(last, 1, last - table_blocks))


def put_lvm_label(disk: Path) -> None:
    """lib/format_text/layout.h of LVM2, struct label_header; in the second sector."""
    label = struct.pack("<8sQII8s", b"LABELONE", 1, 0, 32, b"LVM2 001").ljust(512, b"\0")
    checksum = zlib.crc32(label[20:], 0xF597A6CF ^ 0xFFFFFFFF) ^ 0xFFFFFFFF
    put(disk, 512, label[:16] + struct.pack("<I", checksum) + label[20:])


def put_array(disk: Path, offset: int) -> None:
    """linux/raid/md_p.h, struct mdp_superblock_1: 1.1 at the start, 1.2 at 4 KiB, 1.0 near the
    end."""
    array = struct.pack("<IIII16s", 0xA92B4EFC, 1, 0, 0, b"u" * 16).ljust(128, b"\0")
    array += struct.pack("<QQQ", 2048, 20000, offset // 512)
    put(disk, offset, array.ljust(256, b"\0"))
