# Quotas: the same things are tried on the kernel's mount and on ours. Run in the guest after guest.sh.

# As each format's own driver names them.
quota_options() {
    case $1 in
        ext4) echo usrquota,grpquota,prjquota ;;
        xfs) echo uquota,gquota,pquota ;;
    esac
}

# make_limited FORMAT: a volume on which user 1000, group 2000 and project 7 may have 4 MiB and 20 files each.
make_limited() {
    make_volume "$1" && mount -t "$1" -o "$(quota_options "$1")" "$DISK" "$PLACE" || return
    for whose in "-u 1000" "-g 2000" "-P 7"; do
        # shellcheck disable=SC2086 # Two words.
        setquota $whose 0 4096 0 20 "$PLACE" || return
    done
    mkdir -m 777 "$PLACE"/{user,group,project,other} && chgrp 2000 "$PLACE/group" && chmod g+s "$PLACE/group" &&
        chattr -p 7 +P "$PLACE/project" && umount "$PLACE"
}

as() {
    setpriv --reuid "$1" --regid "$1" --clear-groups -- "${@:2}"
}

# tell NAME COMMAND...: its status and what it complained of, less the names in it.
tell() {
    local name=$1 said status
    shift
    said=$("$@" 2>&1)
    status=$?
    echo "$name: $status ${said##*: }"
}

size() {
    echo "   $(stat -c '%s bytes of %u:%g' "$1")"
}

append_often() {
    exec >>"$1"
    for _ in {1..100}; do
        dd if=/dev/zero bs=64K count=1 status=none || exit
    done
}

make_many() {
    local number
    for number in {1..15}; do
        : >"$1/file$number" && ln -s nowhere "$1/link$number" && mkdir "$1/folder$number" || return
    done
}
export -f append_often make_many

# try_limits: what can be done in $PLACE, told so that two mounts can be compared. Some of it stays there.
try_limits() {
    cd "$PLACE" || return
    tell "user, through the page cache" as 1000 dd if=/dev/zero of=user/a bs=64K count=100 status=none
    size user/a
    tell "user, a file more" as 1000 dd if=/dev/zero of=user/b bs=128K count=1 status=none
    rm user/*
    tell "user, past the page cache" as 1000 dd if=/dev/zero of=user/a bs=64K count=100 oflag=direct status=none
    size user/a
    rm user/*
    tell "user, appending" as 1000 bash -c "append_often user/a"
    size user/a
    rm user/*
    tell "user, allocating" as 1000 fallocate -l 8M user/a
    rm -f user/*
    tell "user, a hole, which takes nothing" as 1000 truncate -s 1G user/a
    tell "user, into the hole" as 1000 dd if=/dev/zero of=user/a bs=64K seek=5 count=100 conv=notrunc status=none
    rm user/*
    tell "user, many files" as 1000 bash -c "make_many user"
    find user | wc -l
    rm -r user/*
    tell "user, an empty file" as 1000 touch user/a
    tell "root, into the user's file" dd if=/dev/zero of=user/a bs=64K count=100 conv=notrunc status=none
    size user/a
    tell "user, after that" as 1000 dd if=/dev/zero of=user/a bs=64K seek=100 count=1 conv=notrunc status=none
    rm user/a
    tell "root, a file of its own" dd if=/dev/zero of=other/a bs=64K count=100 status=none
    tell "root, given to the user" chown 1000 other/a
    tell "user, after that" as 1000 touch other/b
    tell "user, after that, with a block" as 1000 dd if=/dev/zero of=other/b bs=64K count=1 status=none
    tell "group" as 1001 dd if=/dev/zero of=group/a bs=64K count=100 status=none
    size group/a
    tell "group, given elsewhere and to it again" bash -c "chgrp 3000 group/a && chgrp 2000 group/a"
    stat -f -c 'before: %b blocks, %f free, %a to be had, %c files, %d free' project
    tell "project" as 1002 dd if=/dev/zero of=project/a bs=64K count=100 status=none
    size project/a
    sync project/a
    stat -f -c 'after: %b blocks, %f free, %a to be had, %c files, %d free' project
    tell "project, many files" as 1002 bash -c "make_many project"
    find project | wc -l
    tell "project, a link out of it" ln project/a other/c
    tell "project, given to another file" chattr -p 7 other/a
    cd /
}

# usage FORMAT: what the kernel's books say when the kernel mounts it.
usage() {
    mount -t "$1" -o "$(quota_options "$1")" "$DISK" "$PLACE" || return
    repquota -ugPn "$PLACE" && (cd "$PLACE" && find . -printf '%p %y %s %b %U:%G\n' | sort)
    umount "$PLACE"
}

# try_on FORMAT COMMAND...: what the limits let through on a mount that the command makes, and what is in the books after it.
try_on() {
    local format=$1
    shift
    make_limited "$format" && "$@" >/dev/null || return
    try_limits
    umount "$PLACE" && usage "$format" && check_volume "$format"
}
