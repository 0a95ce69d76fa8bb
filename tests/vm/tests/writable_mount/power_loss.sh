# A disk that loses its power: from one moment on, nothing that is written to it arrives. Run in the guest after guest.sh.

readonly UNSTEADY=/dev/mapper/unsteady

# disk_table FEATURES...: dm-flakey, which does what the features say at all times, or nothing.
disk_table() {
    local sectors
    sectors=$(blockdev --getsz "$DISK")
    if (($#)); then
        echo "0 $sectors flakey $DISK 0 0 180 $# $*"
    else
        echo "0 $sectors flakey $DISK 0 180 0"
    fi
}

# unsteady_volume FORMAT: an empty one on such a disk.
unsteady_volume() {
    # Nobody but dmsetup makes nodes here.
    make_volume "$1" && dmsetup create --addnodeoncreate unsteady --table "$(disk_table)" && dmsetup mknodes unsteady
}

# change_disk FEATURES...: at once, without anybody having a chance to write.
change_disk() {
    dmsetup suspend --nolockfs unsteady && dmsetup load unsteady --table "$(disk_table "$@")" && dmsetup resume unsteady
}

# write_durably: in $PLACE, by every way that a program has of knowing that something stays.
write_durably() {
    cd "$PLACE" || return
    mkdir folder && sync folder &&
        dd if=/dev/urandom of=folder/fsync bs=100K count=30 conv=fsync status=none &&
        dd if=/dev/urandom of=folder/o_sync bs=64K count=20 oflag=sync status=none &&
        dd if=/dev/urandom of=folder/direct bs=64K count=20 oflag=direct conv=fsync status=none &&
        dd if=/dev/urandom of=folder/changed bs=64K count=20 conv=fsync status=none &&
        dd if=/dev/urandom of=folder/changed bs=5000 seek=7 count=3 conv=notrunc,fdatasync status=none &&
        dd if=/dev/urandom of=folder/appended bs=10K count=1 status=none &&
        dd if=/dev/urandom of=folder/appended bs=10K count=9 oflag=append conv=notrunc,fsync status=none &&
        dd if=/dev/urandom of=folder/punched bs=64K count=20 conv=fsync status=none &&
        xfs_io -c "fpunch 100k 300k" -c fsync folder/punched &&
        fallocate -l 3M folder/allocated && dd if=/dev/urandom of=folder/allocated bs=1M seek=1 count=1 conv=notrunc,fsync status=none &&
        dd if=/dev/urandom of=folder/mapped bs=64K count=20 conv=fsync status=none &&
        xfs_io -c "mmap -rw 0 1m" -c "mwrite -S 0x5a 70000 200000" -c "msync -s 0 1m" folder/mapped >/dev/null &&
        dd if=/dev/urandom of=folder/shorter bs=64K count=20 conv=fsync status=none &&
        xfs_io -c "truncate 100001" -c fsync folder/shorter &&
        echo old >folder/replaced && sync folder/replaced &&
        echo new >folder/new && sync folder/new && mv folder/new folder/replaced && sync folder &&
        echo no >folder/removed && sync folder/removed folder && rm folder/removed && sync folder &&
        chmod 640 folder/fsync && chown 1000:2000 folder/fsync && sync folder/fsync || return
    find . -type f -print0 | sort -z | xargs -0 sha256sum >/run/durable
    cd /
}

# lose_power OPTIONS: mounts an empty volume by homifs, writes, and has the disk stop in the midst of more.
lose_power() {
    mount -t homifs -o "$1" "$UNSTEADY" "$PLACE" >/dev/null && write_durably || return
    # What nobody waited for may be lost, or not. The volume must be whole all the same: allocating, zeroing and mapped writes
    # around the end of a file once left one of ext4 that was not (generic/456 of fstests).
    dd if=/dev/urandom of="$PLACE/folder/later" bs=64K count=50 status=none
    xfs_io -f -c "pwrite 79837 56425" -c "falloc 46385 46509" -c "falloc -k 140k 100k" -c "pwrite 255468 6676" \
        -c "fzero -k 135084 28060" -c "mmap -rw 0 300k" -c "mwrite 136877 10063" "$PLACE/folder/unfinished" >/dev/null || return
    change_disk drop_writes || return
    dd if=/dev/urandom of="$PLACE/folder/too_late" bs=64K count=10 conv=fsync status=none
    umount "$PLACE" && change_disk
}

# is_durable: everything is there as it was when it was said to be, and what came when there was no power is not.
is_durable() {
    (cd "$PLACE" && sha256sum --quiet -c /run/durable && [[ ! -e folder/removed && ! -e folder/too_late ]] &&
        [[ $(stat -c '%a %u:%g' folder/fsync) == "640 1000:2000" ]])
}
