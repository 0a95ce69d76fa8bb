#!/usr/bin/env bash
# Makes the small volumes that the fuzz targets damage, in extents/fuzz/seeds (or the directory given). What takes a
# mount is left out where there is no root or no loop device.
set -euo pipefail
cd "$(dirname "$0")"
out=${1:-seeds}
mkdir -p "$out"/{ext4,xfs,jbd2,partition_table}
out=$(realpath "$out")
export PATH="$PATH:/usr/sbin:/sbin"
work=$(mktemp -d)
mounted=
finish() {
    if [[ -n $mounted ]]; then umount "$work/mnt" || true; fi
    rm -rf "$work"
}
trap finish EXIT

# Files of every kind; small, since what is damaged is mostly what describes them.
populate() {
    local root=$1 i
    mkdir -p "$root/directory/deeper/still deeper" "$root/many"
    printf 'contents\n' >"$root/small"
    printf 'tiny' >"$root/directory/tiny"
    head -c 20000 /dev/zero | tr '\0' 'x' >"$root/file"
    ln -s 'target' "$root/symlink"
    ln -s "$(printf 'long%.0s' {1..60})" "$root/long symlink"
    ln "$root/file" "$root/directory/link"
    mkfifo "$root/fifo"
    for i in {1..120}; do : >"$root/many/a name of some length $i"; done
    for i in {0..40}; do
        printf 'piece' | dd of="$root/sparse" bs=1 seek=$((i * 9000)) conv=notrunc status=none
    done
    if command -v setfattr >/dev/null; then
        setfattr -n user.short -v value "$root/file" 2>/dev/null || true
        setfattr -n user.long -v "$(head -c 900 /dev/zero | tr '\0' v)" "$root/file" 2>/dev/null || true
    fi
}

populate "$work/tree" 2>/dev/null || mkdir -p "$work/tree"

ext4() {
    local name=$1 size=$2
    shift 2
    rm -f "$out/ext4/$name"
    truncate -s "$size" "$out/ext4/$name"
    mkfs.ext4 -q -F -d "$work/tree" -U 01234567-89ab-cdef-0123-456789abcdef "$@" "$out/ext4/$name"
    # Directories are indexed by this.
    e2fsck -fyD "$out/ext4/$name" >/dev/null 2>&1 || true
}

plain='^metadata_csum,^uninit_bg'
ext4 ext2 4M -t ext2 -b 1024
ext4 ext3 8M -t ext3 -b 1024 -I 256
ext4 plain-1k 8M -b 1024 -O "$plain"
ext4 plain-4k 16M -b 4096 -O "$plain"
ext4 checksums 8M -b 1024
ext4 inline 8M -b 1024 -I 256 -O "$plain,inline_data"
ext4 bigalloc 32M -b 1024 -C 8192 -O "$plain,bigalloc"
ext4 casefold 8M -b 1024 -O "$plain,casefold" -E encoding=utf8
ext4 ea-inode 8M -b 1024 -O "$plain,ea_inode"
ext4 meta-bg 16M -b 1024 -g 1024 -O "$plain,meta_bg,^resize_inode"

# A log to recover: its contents are blocks of the volume, so that what they describe is damaged through the log.
dirty() {
    local name=$1 open=$2
    shift 2
    ext4 "$name" 8M -b 1024 -J size=1 "$@"
    cat >"$work/commands" <<COMMANDS
journal_open $open
journal_write -b 1,2,3,40 $out/ext4/$name
journal_write -r 3
journal_write -b 4,5 $out/ext4/$name
journal_close
COMMANDS
    debugfs -w -f "$work/commands" "$out/ext4/$name" >/dev/null 2>&1
    debugfs -R "dump <8> $out/jbd2/$name" "$out/ext4/$name" 2>/dev/null
}
dirty dirty-plain '' -O "$plain,^64bit"
dirty dirty-64bit '' -O "$plain,64bit"
dirty dirty-version-2 '-c -v 2' -O metadata_csum
dirty dirty-version-3 '-c -v 3' -O metadata_csum

# What only the kernel writes: fast commits, a busy log.
cut_off() {
    local name=$1 options=$2 i
    shift 2
    truncate -s 8M "$work/$name"
    mkfs.ext4 -q -F -b 1024 "$@" "$work/$name"
    mkdir -p "$work/mnt"
    mount -o "loop,$options" "$work/$name" "$work/mnt" 2>/dev/null || return 0
    mounted=yes
    populate "$work/mnt"
    sync -f "$work/mnt/file"
    for i in {1..12}; do
        printf '%s' "$i" >"$work/mnt/new $i"
        sync "$work/mnt/new $i"
        if ((i % 3 == 0)); then rm "$work/mnt/new $i"; fi
    done
    sync "$work/mnt/new 1"
    cp --sparse=always "$work/$name" "$out/ext4/$name"
    umount "$work/mnt"
    mounted=
    debugfs -R "dump <8> $out/jbd2/$name" "$out/ext4/$name" 2>/dev/null
}
if [[ $(id -u) == 0 ]]; then
    cut_off fast-commits rw -O "$plain,fast_commit" -J size=2
    cut_off journaled-data data=journal -O "$plain"
    cut_off checksummed-log rw -O metadata_csum
fi

readonly uuid=01234567-89ab-cdef-0123-456789abcdef
xfs() {
    local name=$1
    shift
    rm -f "$out/xfs/$name"
    truncate -s 72M "$out/xfs/$name"
    # These variables, which fstests sets, let mkfs.xfs make volumes below 300 MiB.
    TEST_DIR=1 TEST_DEV=1 QA_CHECK_FS=1 mkfs.xfs -q -f -d agcount=4 -m "uuid=$uuid" "$@" "$out/xfs/$name" 2>/dev/null || rm -f "$out/xfs/$name"
}
cat >"$work/prototype" <<PROTOTYPE
/dev/null
0 0
d--755 0 0
small ---644 0 0 $work/tree/small
file ---644 0 0 $work/tree/file
sparse ---644 0 0 $work/tree/sparse
symlink l--777 0 0 target
directory d--755 0 0
tiny ---644 0 0 $work/tree/directory/tiny
deeper d--755 0 0
\$
\$
many d--755 0 0
$(for i in {1..90}; do printf 'a_name_of_some_length_%d ---644 0 0 /dev/null\n' "$i"; done)
\$
\$
PROTOTYPE
xfs version-4 -m crc=0 -p "$work/prototype"
xfs version-4-1k -m crc=0 -b size=1024 -p "$work/prototype"
xfs version-5 -p "$work/prototype"
xfs large-directory-blocks -n size=16384 -p "$work/prototype"

mounted_xfs() {
    local name=$1 i
    shift
    xfs "$name" "$@"
    mkdir -p "$work/mnt"
    mount -o loop,nouuid "$out/xfs/$name" "$work/mnt" 2>/dev/null || return 0
    mounted=yes
    populate "$work/mnt"
    for i in {1..400}; do : >"$work/mnt/many/another name of some more length $i"; done
    # A B-tree of extents: every second block.
    for i in {0..300}; do
        printf 'piece' | dd of="$work/mnt/tree" bs=1 seek=$((i * 8192)) conv=notrunc status=none
        if ((i % 50 == 0)); then sync -f "$work/mnt/tree"; fi
    done
    for i in {1..60}; do
        setfattr -n "user.attribute$i" -v "$(printf 'v%.0s' {1..90})" "$work/mnt/file" 2>/dev/null || true
    done
    setfattr -n user.remote -v "$(head -c 9000 /dev/zero | tr '\0' r)" "$work/mnt/small" 2>/dev/null || true
    cp --reflink=always "$work/mnt/file" "$work/mnt/reflink" 2>/dev/null || true
    umount "$work/mnt"
    mounted=
}
if [[ $(id -u) == 0 ]]; then
    mounted_xfs mounted
    mounted_xfs mounted-1k -b size=1024
fi

# Partition tables.
table() {
    truncate -s 64M "$work/table"
    sfdisk -q "$work/table" >/dev/null 2>&1 || return 0
    cp --sparse=always "$work/table" "$out/partition_table/$1"
    rm "$work/table"
}
if command -v sfdisk >/dev/null; then
    printf 'label: gpt\n,16M\n,8M\n,8M\n' | table gpt
    printf 'label: dos\n,16M\n,8M\n,,E\n,4M\n,4M\n,4M\n' | table mbr
fi
# Journals and tables of other kinds are there even where their tools are not.
cp --sparse=always "$out/ext4/plain-1k" "$out/partition_table/none"
for file in "$out"/*/*; do fallocate --dig-holes "$file"; done
du -sh "$out"/* | sed 's/^/seeds: /'
