# fsx of fstests (FSX says where it is): random operations on one file, checked against a copy in memory; buffered, with
# O_DIRECT, and by mappings (or only those that WAYS names), OPERATIONS (100,000) each.
# shellcheck shell=bash disable=SC2034,SC2154,SC2164
fsx=${FSX:-fsx}
needs "$fsx"
operations=${OPERATIONS:-100000}
# -c closes the file and opens it again now and then; -R and -W keep mappings out; -Z is O_DIRECT.
declare -A ways=(
    [buffered]='-R -W -c 200'
    [direct]='-Z -R -W -r 4096 -w 4096 -t 4096 -c 200'
    [mapped]='-c 200'
)
for way in ${WAYS:-buffered direct mapped}; do
    # Words of options, to be split.
    # shellcheck disable=SC2086
    "$fsx" -q -N "$operations" -S $((RANDOM + 1)) -l 1000000 -o 65536 ${ways[$way]} "$MOUNT/$way" ||
        fail "fsx $way found a difference; its log is $MOUNT/$way.fsxlog"
done
found="$operations operations each: ${WAYS:-buffered direct mapped}"
