# Cargo: a part of this project is built on the mount, sources and target there, and its tests are run; then nothing is
# left to build.
# shellcheck shell=bash disable=SC2034,SC2154,SC2164
needs cargo
cp -a "$PROJECT/Cargo.toml" "$PROJECT/Cargo.lock" "$PROJECT/clippy.toml" "$MOUNT/"
(cd "$PROJECT" && git ls-files -z -- engine extents fs gpu mount-helper tests) | (cd "$PROJECT" && tar -c --null -T -) |
    tar -x -C "$MOUNT"
cd "$MOUNT"
export CARGO_TARGET_DIR=$MOUNT/target
cargo build --locked --quiet -p homi-abi
cargo test --locked --quiet -p homi-abi
# Names of temporary folders and the like; a fresh build prints none of them.
again=$(cargo build --locked -p homi-abi 2>&1 | grep -c Compiling || true)
((again == 0)) || fail "cargo compiled $again packages again"
cd "$WORK"
unmount_volume
mount_volume
cd "$MOUNT"
again=$(cargo build --locked -p homi-abi 2>&1 | grep -c Compiling || true)
((again == 0)) || fail "cargo compiled $again packages again after mounting again"
found="built and tested; $(find target -type f | wc -l) files, none compiled twice"
cd "$WORK"
