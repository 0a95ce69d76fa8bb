# SQLite with a write-ahead log: four processes insert, each notes what was acknowledged in a file beside the mount; the
# daemon is killed meanwhile. What was acknowledged must be there, and the database whole.
# shellcheck shell=bash disable=SC2034,SC2154,SC2164
needs python3 sqlite3
acknowledged=$WORK/acknowledged database=$MOUNT/base.db
mkdir "$acknowledged"
sqlite3 "$database" 'PRAGMA journal_mode = WAL; CREATE TABLE t (writer INT, number INT, filling TEXT,
    PRIMARY KEY (writer, number)); CREATE INDEX i ON t (filling)' >/dev/null

# Several at a time, from `number` on, until the mount is gone.
write() {
    local writer
    for writer in 1 2 3 4; do
        python3 "$here/sqlite-writer.py" "$database" "$writer" "$1" >>"$acknowledged/$writer" 2>>"$WORK/writers.log" &
        writers+=($!)
    done
}
verify() {
    [[ $(sqlite3 "$database" 'PRAGMA integrity_check') == ok ]] || fail "the database is damaged"
    local writer
    for writer in 1 2 3 4; do
        sqlite3 "$database" "SELECT number FROM t WHERE writer = $writer" | LC_ALL=C sort >"$WORK/there"
        LC_ALL=C sort "$acknowledged/$writer" | LC_ALL=C comm -23 - "$WORK/there" >"$WORK/lost"
        [[ ! -s $WORK/lost ]] || fail "writer $writer lost $(wc -l <"$WORK/lost"): $(head -n 3 "$WORK/lost")"
    done
}

for round in 1 2 3; do
    writers=()
    write $((round * 1000000))
    sleep "$((SECONDS_LONG / 4)).$((RANDOM % 10))"
    kill_daemon
    for writer in "${writers[@]}"; do
        if wait "$writer"; then fail "a writer did not notice that the mount is gone"; fi
    done
    mount_after_kill
    verify
done
count=$(cat "$acknowledged"/* | wc -l)
((count > 0)) || fail "nobody wrote anything: $(cat "$WORK/writers.log")"
found="$count acknowledged in 3 rounds, each ended by SIGKILL: all there"
