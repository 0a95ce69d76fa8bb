# fsstress of fstests (FSSTRESS says where it is): several processes that do everything at random, and again after the
# daemon was killed in the middle. What is left is for the volume's checker to judge.
# shellcheck shell=bash disable=SC2034,SC2154,SC2164
fsstress=${FSSTRESS:-fsstress}
needs "$fsstress"
operations=${OPERATIONS:-5000}
mkdir "$MOUNT/stress"
"$fsstress" -d "$MOUNT/stress" -n "$operations" -p 6 -s $((RANDOM + 1)) >"$WORK/fsstress.log"
unmount_volume
check_volume
mount_volume
"$fsstress" -d "$MOUNT/stress" -n 10000000 -p 6 -s $((RANDOM + 1)) >"$WORK/fsstress.log" 2>&1 &
running=$!
sleep "$((SECONDS_LONG / 3)).$((RANDOM % 10))"
kill_daemon
sleep 1
# Its processes go on and find nothing that works; it leads a process group of its own.
kill -KILL -- "-$running"
wait "$running" || true
mount_after_kill
rm -r "$MOUNT/stress"
found="$operations operations by each of 6, then SIGKILL of the daemon amid more"
