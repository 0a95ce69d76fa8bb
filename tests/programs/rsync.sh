# rsync: a tree is copied to the mount, changed, and copied again with --delete; it must be the same.
# shellcheck shell=bash disable=SC2034,SC2154,SC2164
needs rsync
tree=$WORK/tree
mkdir "$tree"
cp -a "$PROJECT/docs" "$PROJECT/fs" "$PROJECT/engine" "$tree/"
for name in {1..400}; do head -c $((RANDOM * 8)) /dev/urandom >"$tree/data-$name"; done
ln -s docs "$tree/link" && ln "$tree/data-1" "$tree/hard" && mkfifo "$tree/fifo"
truncate -s 20M "$tree/sparse" && echo end >>"$tree/sparse"
setfattr -n user.key -v value "$tree/data-2"
# rsync leaves the time of a new link or FIFO as it is where the second is right.
touch -h -d '2001-02-03 04:05:06.5' "$tree/link" "$tree/fifo"
chown 1000:1000 "$tree/data-3" && chmod 4755 "$tree/data-3" && touch -d '2001-02-03 04:05:06.789' "$tree/data-4"

copy() { rsync -aHXSA --delete "$tree/" "$MOUNT/tree/"; }
compare() {
    # A FIFO says nothing to diff, and stat tells more than diff looks at.
    diff -r --no-dereference --exclude=fifo "$tree" "$MOUNT/tree"
    local place
    for place in "$tree" "$MOUNT/tree"; do
        (cd "$place" && find . -not -type d -printf '%P %y %m %U %G %n %s %T@ %l\n' -o -printf '%P %y %m %U %G\n' |
            LC_ALL=C sort)
    done | LC_ALL=C sort | uniq -c | awk '$1 != 2' >"$WORK/differences"
    [[ ! -s $WORK/differences ]] || fail "attributes differ: $(head -n 5 "$WORK/differences")"
}
copy
compare
rm -r "$tree/fs" "$tree"/data-1?? && mv "$tree/docs" "$tree/moved"
for name in {2..60}; do [[ ! -f $tree/data-$name ]] || echo changed >>"$tree/data-$name"; done
for name in {500..600}; do echo "$name" >"$tree/data-$name"; done
copy
compare
changes=$(rsync -aHXSA --delete --checksum --itemize-changes "$tree/" "$MOUNT/tree/")
[[ -z $changes ]] || fail "a third copy found work: ${changes%%$'\n'*}"
unmount_volume
mount_volume
compare
found="$(find "$tree" | wc -l) names, the same twice and after mounting again"
