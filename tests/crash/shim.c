/* Keeps a journal of what a program does to the files below a folder, so that the state that a power loss would leave
 * can be rebuilt from it (disk.py). For LD_PRELOAD; interposes the C library's calls, so it sees Python and SQLite alike.
 *
 *   CRASH_ROOT       the folder, as realpath(3) gives it
 *   CRASH_JOURNAL    the journal; every process appends to it, a record a write(2), so they stand in order
 *   CRASH_GRAVEYARD  a folder on the same file system: what loses its last name stays there under its inode, so that no
 *                    inode is given twice and a lost unlink can be undone
 *   CRASH_FORGET     syncs of files whose path holds this, or ends with it where a $ stands behind it, are left out: a
 *                    planted bug
 *   CRASH_FAIL       a file with a piece of a path in it: the next sync of such a file takes it away and fails with EIO;
 *                    with a ! before it, the program is killed before it can do anything about that
 *
 * A record of a write stands after the write itself: what was killed in between was not synced either. A sync has two
 * records: only what stands before the first of them is on disk by the second.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS 4096
#define HIGH 3000 /* out of the program's way */

/* A record that a kill cut short is followed by those of other processes, so each begins and ends with this. */
#define MARK 0x6c616e72756f6a63ULL

struct record {
    uint64_t mark;
    uint32_t size; /* of what follows, without the closing mark */
    uint32_t kind;
    uint64_t inode;
    uint64_t number; /* an offset, a length, or which sync it is */
} __attribute__((packed));

static struct { ino_t inode; char *path; } files[FDS];
static char root[PATH_MAX], graveyard[PATH_MAX];
static const char *forget, *fail;
static int journal = -1;
static atomic_ullong syncs;

static void put(char kind, uint64_t inode, uint64_t number, const void *data, size_t size, const char *more) {
    struct record head = {0};
    size_t second = more ? strlen(more) + 1 : 0;
    uint64_t mark = MARK;
    struct iovec all[4] = {{&head, sizeof head}, {(void *)data, size}, {(void *)more, second}, {&mark, sizeof mark}};
    int before = errno;
    head.mark = MARK;
    head.size = (uint32_t)(size + second);
    head.kind = (uint32_t)kind;
    head.inode = inode;
    head.number = number;
    if (syscall(SYS_writev, journal, all, 4) != (long)(sizeof head + size + second + sizeof mark)) abort();
    errno = before;
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("CRASH_ROOT"), *path = getenv("CRASH_JOURNAL"), *grave = getenv("CRASH_GRAVEYARD");
    if (!folder || !path || !grave) return;
    snprintf(root, sizeof root, "%s", folder);
    snprintf(graveyard, sizeof graveyard, "%s", grave);
    forget = getenv("CRASH_FORGET");
    fail = getenv("CRASH_FAIL");
    int low = (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (low < 0) abort();
    journal = fcntl(low, F_DUPFD_CLOEXEC, HIGH);
    if (journal < 0) journal = low; else syscall(SYS_close, low);
    atomic_store(&syncs, (unsigned long long)getpid() << 32);
}

static int below(const char *path) {
    size_t length = strlen(root);
    return journal >= 0 && !strncmp(path, root, length) && (path[length] == '/' || !path[length]);
}

static char *canonical(const char *path, char *out) { /* the folder resolved, the last name as it is */
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    char resolved[PATH_MAX];
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    if (!realpath(*folder ? folder : "/", resolved)) return NULL;
    if ((size_t)snprintf(out, PATH_MAX, "%s/%s", resolved, name) >= PATH_MAX) return NULL;
    return out;
}

static int opened(int fd, int created, int flags) {
    char link[64], path[PATH_MAX];
    struct stat status;
    if (journal < 0 || fd < 0 || fd >= FDS) return fd;
    int before = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length > 0 && !fstat(fd, &status)) {
        path[length] = 0;
        if (below(path) && (S_ISREG(status.st_mode) || S_ISDIR(status.st_mode))) {
            free(files[fd].path);
            files[fd].path = strdup(path);
            files[fd].inode = status.st_ino;
            if (created) put('C', status.st_ino, 0, path, strlen(path) + 1, NULL);
            else if (flags & O_TRUNC) put('T', status.st_ino, 0, NULL, 0, NULL);
        }
    }
    errno = before;
    return fd;
}

static ino_t known(int fd) {
    struct stat status;
    int before = errno;
    ino_t inode = 0;
    if (journal >= 0 && fd >= 0 && fd < FDS && files[fd].inode) {
        if (!fstat(fd, &status) && status.st_ino == files[fd].inode) inode = status.st_ino;
        else files[fd].inode = 0;
    }
    errno = before;
    return inode;
}

static int open_at(int folder, const char *path, int flags, mode_t mode) {
    struct stat status;
    int created = journal >= 0 && (flags & O_CREAT) && fstatat(folder, path, &status, 0) != 0;
    return opened((int)syscall(SYS_openat, folder, path, flags, mode), created, flags);
}

#define MODE                                                                                                           \
    mode_t mode = 0;                                                                                                   \
    if (flags & (O_CREAT | __O_TMPFILE)) {                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

int open(const char *path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE return open_at(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE return open_at(folder, path, flags, mode); }

ssize_t write(int fd, const void *data, size_t size) {
    ino_t inode = known(fd);
    ssize_t done = syscall(SYS_write, fd, data, size);
    if (inode && done > 0) put('W', inode, (uint64_t)(syscall(SYS_lseek, fd, 0, SEEK_CUR) - done), data, (size_t)done, NULL);
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    ino_t inode = known(fd);
    ssize_t done = syscall(SYS_pwrite64, fd, data, size, offset);
    if (inode && done > 0) put('W', inode, (uint64_t)offset, data, (size_t)done, NULL);
    return done;
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

int ftruncate64(int fd, off64_t length) {
    ino_t inode = known(fd);
    int result = (int)syscall(SYS_ftruncate, fd, length);
    if (inode && !result) put('T', inode, (uint64_t)length, NULL, 0, NULL);
    return result;
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int told_to_fail(const char *path) { /* 2: and to die of it */
    char piece[256];
    int before = errno, found = 0;
    int fd = fail ? (int)syscall(SYS_openat, AT_FDCWD, fail, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        ssize_t size = syscall(SYS_read, fd, piece, sizeof piece - 1);
        syscall(SYS_close, fd);
        piece[size > 0 ? size : 0] = 0;
        int fatal = *piece == '!';
        if (piece[fatal] && strstr(path, piece + fatal) && !syscall(SYS_unlink, fail)) found = 1 + fatal;
    }
    errno = before;
    return found;
}

static int forgotten(const char *path) {
    size_t size = forget ? strlen(forget) : 0, length = strlen(path);
    if (!size) return 0;
    if (forget[size - 1] != '$') return strstr(path, forget) != NULL;
    return length >= size - 1 && !strncmp(path + length - (size - 1), forget, size - 1);
}

static int synced(int fd, long call) {
    ino_t inode = known(fd);
    if (!inode) return (int)syscall(call, fd);
    const char *path = files[fd].path;
    if (forgotten(path)) return 0;
    uint64_t which = atomic_fetch_add(&syncs, 1);
    put('B', inode, which, path, strlen(path) + 1, NULL);
    int fails = told_to_fail(path);
    if (fails) {
        put('X', inode, which, NULL, 0, NULL);
        if (fails > 1) kill(getpid(), SIGKILL);
        errno = EIO;
        return -1;
    }
    int result = (int)syscall(call, fd);
    put(result ? 'X' : 'E', inode, which, NULL, 0, NULL);
    return result;
}
int fsync(int fd) { return synced(fd, SYS_fsync); }
int fdatasync(int fd) { return synced(fd, SYS_fdatasync); }

static void keep(const char *path) { /* under its inode, before it loses its name */
    char target[PATH_MAX + 32];
    struct stat status;
    if (lstat(path, &status) || !S_ISREG(status.st_mode)) return;
    snprintf(target, sizeof target, "%s/%llu", graveyard, (unsigned long long)status.st_ino);
    syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, target, 0);
}

int unlink(const char *path) {
    char real[PATH_MAX];
    int ours = journal >= 0 && canonical(path, real) && below(real);
    if (ours) keep(real);
    int result = (int)syscall(SYS_unlink, path);
    if (ours && !result) put('U', 0, 0, real, strlen(real) + 1, NULL);
    return result;
}

int rename(const char *from, const char *to) {
    char source[PATH_MAX], target[PATH_MAX];
    int ours = journal >= 0 && canonical(from, source) && canonical(to, target) && below(source) && below(target);
    if (ours) keep(target);
    int result = (int)syscall(SYS_rename, from, to);
    if (ours && !result) put('R', 0, 0, source, strlen(source) + 1, target);
    return result;
}

int mkdir(const char *path, mode_t mode) {
    char real[PATH_MAX];
    int result = (int)syscall(SYS_mkdir, path, mode);
    if (!result && journal >= 0 && canonical(path, real) && below(real)) put('M', 0, 0, real, strlen(real) + 1, NULL);
    return result;
}
