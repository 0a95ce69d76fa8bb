# What the scripts of these tests have in common. Run in the guest, as root.

readonly DISK=/dev/ram0 PLACE=/run/volume

# set_up: programs where mount(8) and umount(8) look for them, a disk in memory, and what the tests need of the kernel.
set_up() {
    install -D -m 755 /mnt/homifs /usr/local/bin/homifs || return
    for helper in mount.homifs mount.fuse.homifs umount.homifs umount.fuse.homifs; do
        install -m 755 /mnt/mount-homifs "/usr/sbin/$helper" || return
    done
    modprobe brd rd_nr=1 rd_size=310000 && modprobe -a quota_v2 xfs dm-flakey && mkdir -p "$PLACE"
}

# make_volume FORMAT [DISK]: an empty one, of a disk whose earlier contents are given back.
make_volume() {
    local disk=${2:-$DISK}
    blkdiscard -f "$disk" 2>/dev/null
    case $1 in
        ext4) mkfs.ext4 -q -F -O quota -E quotatype=usrquota:grpquota:prjquota,lazy_itable_init=0 "$disk" ;;
        xfs) mkfs.xfs -q -f "$disk" ;;
    esac
}

# check_volume FORMAT [DISK]: as its own checker sees it. Of XFS it wants a log with nothing in it.
check_volume() {
    case $1 in
        ext4) e2fsck -fn "${2:-$DISK}" ;;
        xfs) xfs_repair -n "${2:-$DISK}" ;;
    esac >/run/checked 2>&1 || { tail -n 20 /run/checked && return 1; }
}
