"""Inserts rows into a table until that fails, and prints the number of each that was acknowledged."""

import os
import sqlite3
import sys

path, writer, number = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
base = sqlite3.connect(path, timeout=60, isolation_level=None)
# With a write-ahead log only FULL makes each transaction durable.
base.execute("PRAGMA synchronous = FULL")
while True:
    rows = [(writer, number + place, f"{writer}-{number + place}-" + "x" * 200) for place in range(5)]
    base.execute("BEGIN IMMEDIATE")
    base.executemany("INSERT INTO t VALUES (?, ?, ?)", rows)
    if number % 7 == 0:
        base.execute("UPDATE t SET filling = filling || 'y' WHERE writer = ? AND number % 13 = 0", (writer,))
    base.execute("COMMIT")
    os.write(1, b"".join(b"%d\n" % row[1] for row in rows))
    number += 5
