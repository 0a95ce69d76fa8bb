/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reads files by libhomifs and compares every byte with pread(2):
 *
 *     read_files ELSEWHERE FILE...
 *
 * ELSEWHERE is a file on no mount of homifs. Says "N files, B bytes, E extents in one" where all is as it should be.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <homifs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define WANT(condition)                                                                                                \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: not so: %s (%s)\n", __FILE__, __LINE__, #condition, homifs_last_error()->message); \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

/* Files of terabytes are mostly holes; their beginnings, middles and ends are what counts. */
#define MOST ((uint64_t)3 << 20)

static uint64_t compared;
static int64_t most_extents;

static int64_t pread_all(int fd, uint8_t *target, uint64_t length, uint64_t offset)
{
    uint64_t done = 0;
    while (done < length) {
        ssize_t const now = pread(fd, target + done, length - done, (off_t)(offset + done));
        WANT(now >= 0);
        if (now == 0)
            break;
        done += (uint64_t)now;
    }
    return (int64_t)done;
}

static void compare(const homifs_file *file, int fd, uint64_t offset, uint64_t length)
{
    /* A byte before and one behind show whether it keeps to its target. */
    uint8_t *ours = malloc(length + 2), *theirs = malloc(length + 1);
    WANT(ours != NULL && theirs != NULL);
    memset(ours, 0xaa, length + 2);
    int64_t const got = homifs_read(file, ours + 1, length, offset);
    int64_t const wanted = pread_all(fd, theirs, length, offset);
    WANT(got == wanted);
    WANT(memcmp(ours + 1, theirs, (size_t)got) == 0);
    WANT(ours[0] == 0xaa && ours[length + 1] == 0xaa);
    compared += (uint64_t)got;
    free(ours);
    free(theirs);
}

static uint64_t number_at(const uint8_t *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return value;
}

/* What the attribute itself says; its first part is enough. */
static void compare_extents(const homifs_file *file, int fd)
{
    static uint8_t value[65536];
    WANT(fgetxattr(fd, "homi.extents", value, sizeof value) >= 72);
    struct homifs_extent_map map;
    int64_t const count = homifs_extents(file, &map, NULL, 0);
    WANT(count >= 0 && (uint64_t)count == map.total);
    WANT(map.generation == number_at(value + 24) && map.file_size == number_at(value + 32));
    WANT(map.volume_start == number_at(value + 40) && map.total == number_at(value + 48));
    struct homifs_extent *extents = calloc((size_t)count + 1, sizeof *extents);
    WANT(extents != NULL && homifs_extents(file, NULL, extents, (uint64_t)count) == count);
    uint64_t const here = number_at(value + 64);
    for (uint64_t n = 0; n < here; n++) {
        const uint8_t *entry = value + 72 + n * 32;
        WANT(extents[n].logical == number_at(entry) && extents[n].physical == number_at(entry + 8));
        WANT(extents[n].length == number_at(entry + 16) && extents[n].flags == (uint32_t)number_at(entry + 24));
    }
    /* Those that came in later parts follow without a gap in the order. */
    for (int64_t n = 1; n < count; n++)
        WANT(extents[n].logical >= extents[n - 1].logical + extents[n - 1].length);
    if (count > most_extents)
        most_extents = count;
    free(extents);
}

static void compare_file(homifs_session *session, const char *path)
{
    int const fd = open(path, O_RDONLY);
    struct stat stat;
    WANT(fd >= 0 && fstat(fd, &stat) == 0);
    homifs_file *file = NULL, *same = NULL;
    WANT(homifs_open(session, path, &file) == 0 && file != NULL);
    WANT(homifs_open_fd(session, fd, &same) == 0);
    WANT(strcmp(homifs_served_by(file), "queues") == 0 && strcmp(homifs_why(file), "") == 0);
    uint64_t const size = (uint64_t)homifs_size(file);
    WANT(size == (uint64_t)stat.st_size && homifs_size(same) == stat.st_size);
    struct homifs_description what;
    WANT(homifs_describe(file, &what) == 0 && what.size == size);
    WANT(what.flags == (HOMIFS_FILE_BY_QUEUES | HOMIFS_FILE_HAS_GENERATION) && what.nsid != 0);
    WANT(homifs_block_size(file) == what.block_size && what.block_size == 1u << what.block_shift);
    WANT(what.lease != NULL && (*what.lease & 0xff) == 1);
    uint64_t const length = size < MOST ? size : MOST;
    compare(file, fd, 0, length);
    compare(same, fd, size - length, length + 100);
    compare(file, fd, size / 3 + 1, length / 5 + 3);
    compare(file, fd, size + 5000, 10);
    compare_extents(file, fd);
    homifs_close(same);
    homifs_close(file);
    close(fd);
}

/* All files by one call, each from its first to its last byte but one, as far as they are small. */
static void compare_many(homifs_session *session, int count, char **paths)
{
    struct homifs_range *ranges = calloc((size_t)count, sizeof *ranges);
    homifs_file **files = calloc((size_t)count, sizeof *files);
    WANT(ranges != NULL && files != NULL);
    for (int n = 0; n < count; n++) {
        WANT(homifs_open(session, paths[n], &files[n]) == 0);
        uint64_t const size = (uint64_t)homifs_size(files[n]), length = size < 100000 ? size : 100000;
        ranges[n] = (struct homifs_range){files[n], 1, length, malloc(length + 1), -1, 77, 0};
        WANT(ranges[n].target != NULL);
    }
    WANT(homifs_read_many(session, ranges, (uint64_t)count) == 0);
    uint8_t *theirs = malloc(100000);
    for (int n = 0; n < count; n++) {
        int const fd = open(paths[n], O_RDONLY);
        WANT(fd >= 0 && ranges[n].nvme_status == 0);
        WANT(pread_all(fd, theirs, ranges[n].length, 1) == ranges[n].result);
        WANT(memcmp(theirs, ranges[n].target, (size_t)ranges[n].result) == 0);
        compared += (uint64_t)ranges[n].result;
        free(ranges[n].target);
        homifs_close(files[n]);
        close(fd);
    }
    free(theirs);
    free(files);
    free(ranges);
}

/* All files of the directory that this one lies in, through one snapshot. */
static void compare_snapshot(homifs_session *session, const char *path)
{
    char folder[4096];
    const char *const slash = strrchr(path, '/');
    WANT(slash != NULL && slash - path < (long)sizeof folder);
    memcpy(folder, path, (size_t)(slash - path));
    folder[slash - path] = '\0';
    homifs_snapshot *snapshot = NULL;
    struct homifs_snapshot_memory all;
    WANT(homifs_snapshot_open(session, folder, &snapshot) == 0 && homifs_snapshot_describe(snapshot, &all) == 0);
    WANT(all.files > 0 && all.arena != NULL && all.nsid != 0 && (*all.lease & 0xff) == 1);
    struct homifs_snapshot_range *ranges = calloc((size_t)all.files, sizeof *ranges);
    WANT(ranges != NULL);
    for (uint64_t n = 0; n < all.files; n++) {
        struct homifs_snapshot_entry entry;
        WANT(homifs_snapshot_file(snapshot, n, &entry) == 0 && entry.start <= all.size);
        char name[4096];
        WANT(entry.path_length < sizeof name);
        memcpy(name, entry.path, entry.path_length);
        name[entry.path_length] = '\0';
        WANT(homifs_snapshot_find(snapshot, name) == (int64_t)n);
        uint64_t const length = entry.size < 100000 ? entry.size + 10 : 100000;
        ranges[n] = (struct homifs_snapshot_range){n, 1, length, malloc(length), -1, 77, 0};
        WANT(ranges[n].target != NULL);
    }
    WANT(homifs_snapshot_read_many(snapshot, ranges, all.files) == 0);
    uint8_t *theirs = malloc(100010);
    for (uint64_t n = 0; n < all.files; n++) {
        struct homifs_snapshot_entry entry;
        char name[8192];
        WANT(homifs_snapshot_file(snapshot, n, &entry) == 0);
        snprintf(name, sizeof name, "%s/%.*s", folder, (int)entry.path_length, entry.path);
        int const fd = open(name, O_RDONLY);
        WANT(fd >= 0 && ranges[n].nvme_status == 0);
        WANT(pread_all(fd, theirs, ranges[n].length, 1) == ranges[n].result);
        WANT(memcmp(theirs, ranges[n].target, (size_t)ranges[n].result) == 0);
        compared += (uint64_t)ranges[n].result;
        free(ranges[n].target);
        close(fd);
    }
    free(theirs);
    struct homifs_snapshot_range beyond = {all.files, 0, 0, NULL, 5, 5, 0};
    WANT(homifs_snapshot_read_many(snapshot, &beyond, 1) == -EINVAL && beyond.result == -EINVAL);
    WANT(homifs_snapshot_find(snapshot, "no such file") == -ENOENT);
    free(ranges);
    homifs_snapshot_close(snapshot);
    int const fd = open(folder, O_RDONLY);
    WANT(fd >= 0 && homifs_snapshot_open_fd(session, fd, &snapshot) == 0);
    close(fd);
    homifs_snapshot_close(snapshot);
    homifs_snapshot_close(NULL);
}

struct task {
    homifs_session *session;
    const char *path;
};

static void *read_in_thread(void *given)
{
    const struct task *task = given;
    homifs_file *file = NULL;
    int const fd = open(task->path, O_RDONLY);
    WANT(fd >= 0 && homifs_open(task->session, task->path, &file) == 0);
    static _Thread_local uint8_t ours[65536], theirs[65536];
    for (uint64_t round = 0; round < 50; round++) {
        uint64_t const offset = round * 7919;
        int64_t const got = homifs_read(file, ours, sizeof ours, offset);
        WANT(got >= 0 && got == pread_all(fd, theirs, sizeof theirs, offset));
        WANT(memcmp(ours, theirs, (size_t)got) == 0);
    }
    homifs_close(file);
    close(fd);
    return NULL;
}

static void compare_in_threads(homifs_session *session, const char *path)
{
    pthread_t threads[6];
    struct task task = {session, path};
    for (int n = 0; n < 6; n++)
        WANT(pthread_create(&threads[n], NULL, read_in_thread, &task) == 0);
    for (int n = 0; n < 6; n++)
        WANT(pthread_join(threads[n], NULL) == 0);
}

/* An error has a number, and a sentence with a word that tells what it is about. */
#define REFUSED(call, errno_wanted, word)                                                                              \
    do {                                                                                                               \
        WANT((call) == -(errno_wanted) && homifs_last_error()->number == (errno_wanted));                              \
        WANT(strstr(homifs_last_error()->message, word) != NULL);                                                      \
    } while (0)

static void refuse_what_cannot_be(homifs_session *session, const char *path)
{
    homifs_file *file = NULL;
    homifs_session *other = NULL;
    uint8_t byte;
    REFUSED(homifs_session_open(NULL, 0, &other), EINVAL, "path is NULL");
    REFUSED(homifs_session_open(path, 0, NULL), EINVAL, "session is NULL");
    REFUSED(homifs_session_open(path, 8, &other), EINVAL, "flags");
    REFUSED(homifs_session_open("/nowhere/at/all", 0, &other), ENOENT, "path");
    REFUSED(homifs_session_open_fd(-1, 0, &other), EBADF, "descriptor");
    REFUSED(homifs_open(NULL, path, &file), EINVAL, "session is NULL");
    REFUSED(homifs_open(session, path, NULL), EINVAL, "file is NULL");
    REFUSED(homifs_open(session, "/", &file), EINVAL, "regular");
    REFUSED(homifs_size(NULL), EINVAL, "file is NULL");
    REFUSED(homifs_read(NULL, &byte, 1, 0), EINVAL, "file is NULL");
    REFUSED(homifs_read_many(session, NULL, 1), EINVAL, "ranges is NULL");
    WANT(homifs_read_many(session, NULL, 0) == 0);
    WANT(homifs_served_by(NULL) == NULL && homifs_why(NULL) == NULL && homifs_session_why(NULL) == NULL);
    WANT(file == NULL && other == NULL);
    homifs_close(NULL);
    homifs_session_close(NULL);
    homifs_buffer_release(NULL);
    homifs_queues_release(NULL);

    WANT(homifs_open(session, path, &file) == 0);
    REFUSED(homifs_read(file, NULL, 1, 0), EINVAL, "target is NULL");
    REFUSED(homifs_read(file, &byte, UINT64_MAX, 0), EINVAL, "no memory");
    REFUSED(homifs_describe(file, NULL), EINVAL, "description is NULL");
    REFUSED(homifs_extents(file, NULL, NULL, 1), EINVAL, "extents is NULL");
    WANT(homifs_read(file, NULL, 0, 0) == 0 && homifs_read(file, &byte, 1, UINT64_MAX) == 0);
    struct homifs_range ranges[2] = {{file, 0, 1, &byte, 5, 5, 0}, {NULL, 0, 1, &byte, 5, 5, 0}};
    REFUSED(homifs_read_many(session, ranges, 2), EINVAL, "range 1: file is NULL");
    WANT(ranges[0].result == 5);
    WANT(homifs_session_open(path, 0, &other) == 0);
    REFUSED(homifs_read_many(other, ranges, 1), EINVAL, "another session");
    homifs_session_close(other);
    homifs_close(file);

    struct homifs_buffer_memory place;
    struct homifs_queue_memory queues;
    homifs_buffer *buffer = NULL;
    homifs_queues *set = NULL;
    REFUSED(homifs_buffer_new(session, 0, &buffer, &place), EINVAL, "buffer of 0 bytes");
    REFUSED(homifs_buffer_new(session, UINT64_MAX, &buffer, &place), EINVAL, "buffer of");
    WANT(homifs_buffer_new(session, 4096, &buffer, &place) == 0 && place.kind == HOMIFS_BUFFER_HOST);
    homifs_buffer_release(buffer);
    REFUSED(homifs_buffer_of_dma_buf(session, -1, 4096, &buffer, &place), EBADF, "descriptor");
    homifs_snapshot *snapshot = NULL;
    WANT(homifs_snapshot_open(session, path, &snapshot) == -ENOTDIR && snapshot == NULL);
    WANT(homifs_snapshot_open(session, "/", &snapshot) < 0 && snapshot == NULL);
    REFUSED(homifs_snapshot_read_many(NULL, NULL, 0), EINVAL, "snapshot is NULL");
    REFUSED(homifs_queues_new(session, 1, 3, &set, &queues), EINVAL, "power of two");
    REFUSED(homifs_queues_new(session, 0, 4, &set, &queues), EINVAL, "0 queue pairs");
}

/* Off the mount queues are refused, and pread(2) serves where it is allowed, and says why. */
static void read_elsewhere(homifs_session *session, const char *path)
{
    homifs_session *other = NULL;
    homifs_file *file = NULL;
    struct homifs_limits limits;
    REFUSED(homifs_session_open(path, 0, &other), EOPNOTSUPP, "homifs");
    WANT(homifs_open(session, path, &file) < 0 && file == NULL);
    WANT(homifs_session_open(path, HOMIFS_ALLOW_PREAD, &other) == 0);
    WANT(strcmp(homifs_session_served_by(other), "pread") == 0 && strlen(homifs_session_why(other)) > 10);
    REFUSED(homifs_session_limits(other, &limits), EOPNOTSUPP, "no queues");
    WANT(homifs_open(other, path, &file) == 0);
    WANT(strcmp(homifs_served_by(file), "pread") == 0 && strstr(homifs_why(file), "fuse.homifs") != NULL);
    REFUSED(homifs_extents(file, NULL, NULL, 0), EOPNOTSUPP, "homi.extents");
    int const fd = open(path, O_RDONLY);
    compare(file, fd, 3, (uint64_t)homifs_size(file));
    close(fd);
    homifs_session_close(other);
    /* The file keeps what it needs of its session. */
    uint8_t byte;
    WANT(homifs_read(file, &byte, 1, 0) == 1);
    homifs_close(file);
}

int main(int argc, char **argv)
{
    WANT(argc > 2 && homifs_api_version() == HOMIFS_API_VERSION);
    WANT(homifs_last_error()->number == 0);
    homifs_session *session = NULL;
    WANT(homifs_session_open(argv[2], 0, &session) == 0);
    WANT(strcmp(homifs_session_served_by(session), "queues") == 0);
    struct homifs_limits limits;
    WANT(homifs_session_limits(session, &limits) == 0 && limits.transfer >= 4096 && limits.page >= 4096);
    WANT(homifs_session_wake(session) == 0);
    const char *large = argv[2];
    struct stat stat, largest = {0};
    for (int n = 2; n < argc; n++) {
        compare_file(session, argv[n]);
        if (lstat(argv[n], &stat) == 0 && stat.st_size > largest.st_size) {
            largest = stat;
            large = argv[n];
        }
    }
    compare_many(session, argc - 2, argv + 2);
    compare_snapshot(session, large);
    compare_in_threads(session, large);
    refuse_what_cannot_be(session, argv[2]);
    read_elsewhere(session, argv[1]);
    homifs_session_close(session);
    printf("%d files, %llu bytes, %lld extents in one\n", argc - 2, (unsigned long long)compared,
           (long long)most_extents);
    return 0;
}
