# The volume that a program runs on: made, mounted, its daemon killed, mounted again, checked.
# shellcheck shell=bash disable=SC2034,SC2154,SC2164

readonly IMAGE=$WORK/disk.img MOUNT=$WORK/mount
daemon=''

# What the program found; `one` prints it when the volume was checked, too.
found=''

# Says why the program did not do what it must.
fail() {
    echo "$*" >&2
    exit 1
}

# Ends where a program is missing.
needs() {
    local program
    for program; do
        command -v "$program" >/dev/null || {
            echo "$program is not installed"
            exit 77
        }
    done
}

make_volume() {
    truncate -s 4G "$IMAGE"
    if [[ $FORMAT == xfs ]]; then mkfs.xfs -q "$IMAGE"; else mkfs.ext4 -q -F "$IMAGE"; fi
    mkdir "$MOUNT"
}

# Mounts the volume; after a daemon was killed, as soon as the kernel has let go of the device.
mount_volume() {
    local until=$((SECONDS + 30))
    while :; do
        "$HOMIFS" mount -f -o "rw,reads=$READS" "$IMAGE" "$MOUNT" 2>"$WORK/daemon.log" &
        daemon=$!
        while ! mountpoint -q "$MOUNT" && kill -0 "$daemon" 2>/dev/null; do sleep 0.02; done
        if mountpoint -q "$MOUNT"; then return; fi
        ((SECONDS < until)) || fail "no mount: $(cat "$WORK/daemon.log")"
        sleep 0.2
    done
}

# Unmounts and waits for the daemon, whose end says that the device is free.
unmount_volume() {
    "$HOMIFS" umount "$MOUNT"
    wait "$daemon" || fail "the daemon failed: $(cat "$WORK/daemon.log")"
    daemon=''
}

kill_daemon() {
    kill -KILL "$daemon"
    wait "$daemon" || true
    daemon=''
}

# Clears away the mount that a killed daemon left, and mounts the volume again.
mount_after_kill() {
    local until=$((SECONDS + 20))
    # Programs that were killed may still be on their way out.
    until umount "$MOUNT" 2>/dev/null; do
        ((SECONDS < until)) || fail "the mount that the daemon left is busy: $(fuser -vm "$MOUNT" 2>&1 || true)"
        sleep 0.1
    done
    mount_volume
}

check_volume() {
    if [[ $FORMAT == xfs ]]; then
        xfs_repair -n "$IMAGE" || fail "xfs_repair found damage"
    else
        e2fsck -fn "$IMAGE" || fail "e2fsck found damage"
    fi
}

clear_away() {
    cd /
    # Programs of the test that are still there would keep the mount busy.
    local process
    for process in $(jobs -p); do [[ $process == "$daemon" ]] || kill -KILL "$process" 2>/dev/null || true; done
    while mountpoint -q "$MOUNT"; do umount -l "$MOUNT"; done
    [[ $daemon ]] || return 0
    # Without a mount and an open file it ends by itself.
    timeout 10 tail --pid="$daemon" -f /dev/null || kill -KILL "$daemon" || true
}
