# PostgreSQL: initdb and pgbench on the mount; clients note beside it what was committed; the daemon is killed meanwhile.
# After recovery everything that was acknowledged is there, pgbench's sums agree, and amcheck and checksums find nothing.
# shellcheck shell=bash disable=SC2034,SC2154,SC2164
bin=$(find /usr/lib/postgresql -maxdepth 2 -name bin 2>/dev/null | sort -V | tail -n 1 || true)
[[ $bin ]] || bin=$(dirname "$(command -v initdb || echo /missing/initdb)")
[[ -x $bin/initdb ]] || { echo "PostgreSQL is not installed"; exit 77; }
needs setpriv
user=postgres
id "$user" >/dev/null 2>&1 || user=nobody
acknowledged=$WORK/acknowledged socket=$WORK/socket
mkdir "$acknowledged" "$socket" "$MOUNT/cluster"
touch "$WORK/postgresql.log"
chown "$user" "$acknowledged" "$socket" "$MOUNT/cluster" "$WORK/postgresql.log"
cd "$WORK"
stop_server() {
    local server
    server=$(head -n 1 "$MOUNT/cluster/postmaster.pid" 2>/dev/null || true)
    [[ -z $server ]] || kill -QUIT "$server" 2>/dev/null || true
}
trap 'stop_server; clear_away' EXIT

as_user() { setpriv --reuid "$user" --regid "$(id -g "$user")" --clear-groups env HOME="$WORK" "$@"; }
start() {
    as_user "$bin/pg_ctl" -s -w -t 60 -D "$MOUNT/cluster" -l "$WORK/postgresql.log" start \
        -o "-c listen_addresses='' -c unix_socket_directories='$socket'" || fail "$(tail -n 20 "$WORK/postgresql.log")"
}
sql() { as_user "$bin/psql" -X -q -At -v ON_ERROR_STOP=1 -h "$socket" -d postgres "$@"; }

as_user "$bin/initdb" -k -A trust -U "$user" -D "$MOUNT/cluster" >/dev/null
start
sql -c 'CREATE EXTENSION amcheck' || echo "amcheck is not installed: indexes are read instead"
sql -c 'CREATE TABLE acknowledged (client INT, number INT, PRIMARY KEY (client, number))'
as_user "$bin/pgbench" -q -i -s 5 -h "$socket" postgres 2>/dev/null

# One transaction a line; psql prints the number when the server has acknowledged the commit.
client() {
    seq "$2" "$(($2 + 999999))" |
        sed "s/.*/INSERT INTO acknowledged VALUES ($1, &) RETURNING number;/" | sql >>"$acknowledged/$1" 2>/dev/null
}
verify() {
    local client
    for client in 1 2 3; do
        sql -c "SELECT number FROM acknowledged WHERE client = $client" | LC_ALL=C sort >"$WORK/there"
        LC_ALL=C sort "$acknowledged/$client" | LC_ALL=C comm -23 - "$WORK/there" >"$WORK/lost"
        [[ ! -s $WORK/lost ]] || fail "client $client lost $(wc -l <"$WORK/lost"): $(head -n 3 "$WORK/lost")"
    done
    # Each of pgbench's transactions adds the same to an account, a teller, a branch and the history.
    local sums
    sums=$(sql -c "SELECT count(DISTINCT sum) FROM (SELECT sum(abalance) FROM pgbench_accounts UNION ALL
        SELECT sum(tbalance) FROM pgbench_tellers UNION ALL SELECT sum(bbalance) FROM pgbench_branches UNION ALL
        SELECT coalesce(sum(delta), 0) FROM pgbench_history) AS sums")
    [[ $sums == 1 ]] || fail "pgbench's sums differ"
    as_user "$bin/pg_amcheck" -h "$socket" -d postgres --heapallindexed >"$WORK/amcheck" 2>&1 ||
        grep -q 'amcheck is not installed' "$WORK/amcheck" || fail "$(cat "$WORK/amcheck")"
}

for round in 1 2 3; do
    clients=()
    for client in 1 2 3; do
        client "$client" $((round * 1000000)) &
        clients+=($!)
    done
    as_user "$bin/pgbench" -n -c 4 -T 600 -h "$socket" postgres >"$WORK/pgbench-$round.log" 2>&1 &
    clients+=($!)
    sleep "$((SECONDS_LONG / 3)).$((RANDOM % 10))"
    server=$(head -n 1 "$MOUNT/cluster/postmaster.pid")
    kill_daemon
    for client in "${clients[@]}"; do wait "$client" || true; done
    # It finds out at the next fsync, which it does not survive.
    timeout 30 tail --pid="$server" -f /dev/null || fail "the server does not end"
    mount_after_kill
    start
    verify
done
count=$(cat "$acknowledged"/* | wc -l)
transactions=$(sql -c 'SELECT count(*) FROM pgbench_history')
((count > 0 && transactions > 0)) || fail "nobody wrote anything: $(tail -n 5 "$WORK"/pgbench-*.log)"
as_user "$bin/pg_ctl" -s -w -m fast -D "$MOUNT/cluster" stop
as_user "$bin/pg_checksums" -D "$MOUNT/cluster" >/dev/null
found="$count acknowledged rows and $transactions of pgbench in 3 rounds, each ended by SIGKILL: all there"
