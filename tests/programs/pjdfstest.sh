# pjdfstest (`cargo install pjdfstest`): each test that passes on the kernel's own mount of this format must pass here.
# shellcheck shell=bash disable=SC2034,SC2154,SC2164
pjdfstest=${PJDFSTEST:-pjdfstest}
needs "$pjdfstest" python3
group=$(id -gn nobody)
second=$(awk -F: '$3 >= 1 && $3 < 65534 { print $1; exit }' /etc/passwd)
cat >"$WORK/pjdfstest.toml" <<CONFIG
[features]
posix_fallocate = {}
rename_ctime = {}
utime_now = {}
utimensat = {}
[settings]
naptime = 0.02
allow_remount = false
[dummy_auth]
entries = [["nobody", "$group"], ["$second", "$(id -gn "$second")"]]
CONFIG

# The kernel's mounts: one to compare with, and one that is the other file system for EXDEV.
kernels=$WORK/kernel other=$WORK/other
mkdir "$kernels" "$other"
unmount_kernels() {
    local place
    for place in "$kernels" "$other"; do ! mountpoint -q "$place" || umount "$place"; done
}
trap 'unmount_kernels; clear_away' EXIT
for place in "$kernels" "$other"; do
    truncate -s 1G "$place.img"
    if [[ $FORMAT == xfs ]]; then mkfs.xfs -q "$place.img"; else mkfs.ext4 -q -F "$place.img"; fi
    mount -o loop "$place.img" "$place"
done

on() {
    chmod 755 "$1"
    mkdir "$1/tests"
    chmod 777 "$1/tests"
    "$pjdfstest" -v -c "$WORK/pjdfstest.toml" -s "$other" -p "$1/tests" >"$2" 2>&1 || true
    grep -qE '^Summary: ' "$2" || fail "pjdfstest did not get through: $(tail -n 3 "$2")"
    sed -nE 's/^([A-Za-z0-9_:]+) +(ok|FAILED|failed|skipped).*/\1 \2/p' "$2" | LC_ALL=C sort >"$2.results"
}
on "$kernels" "$WORK/on-kernel"
on "$MOUNT" "$WORK/on-homifs"
grep ' ok$' "$WORK/on-kernel.results" | cut -d ' ' -f 1 >"$WORK/must-pass" || true
grep ' ok$' "$WORK/on-homifs.results" | cut -d ' ' -f 1 >"$WORK/passed" || true
LC_ALL=C comm -23 "$WORK/must-pass" "$WORK/passed" >"$WORK/lost"
# The C library takes the limit from the type of the file system and knows none for FUSE, so pjdfstest skips this one.
links() {
    python3 - "$1" <<'PYTHON'
import errno, os, sys
open(os.path.join(sys.argv[1], "linked"), "w").close()
for count in range(1, 70000):
    try:
        os.link(os.path.join(sys.argv[1], "linked"), os.path.join(sys.argv[1], f"link-{count}"))
    except OSError as error:
        print(count, errno.errorcode[error.errno])
        break
else:
    print("no limit")
PYTHON
}
if grep -qx link::link_count_max "$WORK/lost" && [[ $(links "$kernels") == "$(links "$MOUNT")" ]]; then
    sed -i /^link::link_count_max$/d "$WORK/lost"
    echo link::link_count_max >>"$WORK/passed"
fi
unmount_kernels
[[ -s $WORK/must-pass ]] || fail "nothing passes on the kernel's mount: $(tail -n 3 "$WORK/on-kernel")"
found="$(wc -l <"$WORK/passed") pass, of $(wc -l <"$WORK/must-pass") on the kernel's mount"
[[ ! -s $WORK/lost ]] || fail "$found; failed here only: $(tr '\n' ' ' <"$WORK/lost")"
