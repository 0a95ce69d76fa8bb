# git: a clone, commits, gc and fsck; the objects and the files are those of a clone beside the mount.
# shellcheck shell=bash disable=SC2034,SC2154,SC2164
needs git
export HOME=$WORK GIT_CONFIG_NOSYSTEM=1
git config --global user.name programs
git config --global user.email programs@localhost
git config --global --add safe.directory '*'

git clone -q --no-local "$PROJECT" "$MOUNT/clone"
git clone -q --no-local "$PROJECT" "$WORK/clone"
cd "$MOUNT/clone"
for round in {1..15}; do
    echo "$round" >>README.md
    git mv "$(git ls-files docs | sed -n 1p)" "moved-$round"
    git commit -qam "round $round"
done
git checkout -q -b side HEAD~10
echo side >only-here && git add only-here && git commit -qm side
git rebase -q "$(git rev-parse HEAD~5)"
git checkout -q -
git merge -q -m merge side
[[ -z $(git status --porcelain) ]] || fail "git status: $(git status --porcelain | head)"
git gc -q --aggressive --prune=now
git fsck --full --strict
git reset -q --hard origin/HEAD
diff -r --exclude=.git "$MOUNT/clone" "$WORK/clone"
found="$(git rev-list --all --objects | wc -l) objects, fsck and diff agree"
cd "$WORK"
unmount_volume
mount_volume
git -C "$MOUNT/clone" fsck --full --strict
diff -r --exclude=.git "$MOUNT/clone" "$WORK/clone"
