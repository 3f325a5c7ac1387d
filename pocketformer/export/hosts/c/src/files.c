/* Files of a bundle, opened so that no symbolic link can lead out of it, and read once.
 *
 * POSIX; what another system needs in its place stands in this file, in library.c and in usable_cores. */

/* A descriptor of the regular file `path` below `folder`, with its size; -1 with `why` in words. */
static int open_member(int folder, const char *path, uint64_t *size, const char **why)
{
    int parent = folder;
    *why = "cannot be opened";
    for (;;) {
        const char *slash = strchr(path, '/');
        size_t length = slash ? (size_t)(slash - path) : strlen(path);
        char part[NAME_MAX + 1];
        if (length > NAME_MAX) {
            *why = "is missing";
            break;
        }
        memcpy(part, path, length);
        part[length] = '\0';
        /* Not to block on a pipe, whose open would wait for its other end. */
        int flags = O_RDONLY | O_NOFOLLOW | O_CLOEXEC | (slash ? O_DIRECTORY : O_NONBLOCK);
        int child = openat(parent, part, flags);
        if (child < 0) {
            struct stat status;
            bool link = fstatat(parent, part, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(status.st_mode);
            *why = link ? "is or lies behind a symbolic link" : errno == ENOENT ? "is missing" : *why;
            break;
        }
        if (parent != folder)
            close(parent);
        if (!slash) {
            struct stat status;
            if (fstat(child, &status) == 0 && S_ISREG(status.st_mode) && status.st_size >= 0) {
                *size = (uint64_t)status.st_size;
                return child;
            }
            close(child);
            *why = "is no regular file";
            return -1;
        }
        parent = child;
        path = slash + 1;
    }
    if (parent != folder)
        close(parent);
    return -1;
}

/* Read `size` bytes and see that no more follow; into `kept` or, where that is NULL, away. `digest` may be NULL. */
static bool read_descriptor(int file, uint64_t size, struct bytes *kept, struct sha256 *digest)
{
    unsigned char buffer[16384];
    uint64_t done = 0;
    for (;;) {
        unsigned char *place = kept && done < size ? kept->data + done : buffer;
        uint64_t wanted = kept && done < size ? size - done : sizeof buffer;
        ssize_t got = read(file, place, wanted < (1u << 20) ? (size_t)wanted : (size_t)1 << 20);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 || (uint64_t)got > size - done)
            return false;
        if (got == 0)
            return done == size;
        if (digest)
            sha256_add(digest, place, (size_t)got);
        done += (uint64_t)got;
    }
}

/* Where the bytes of a file go, and what they must be. */
struct member {
    const char *path;
    uint64_t limit;      /* the most bytes that it may have */
    bool sized;          /* whether it must have exactly `size` bytes */
    uint64_t size;
    struct bytes *bytes; /* where to put them; NULL: nowhere */
    char *sha256;        /* where to put the digest, 65 characters; NULL: nowhere */
};

/* Read `member` of the bundle `folder`; with neither `bytes` nor `sha256` its size alone is compared. On failure
   `bytes` is empty, and `error` begins with the path. A missing file is PF_USAGE where no size is known. */
static pf_code read_member(int folder, const struct member *member, pf_error *error)
{
    uint64_t size = 0;
    const char *why = NULL;
    struct sha256 hash;
    int file = open_member(folder, member->path, &size, &why);
    if (file < 0) {
        bool absent = !member->sized && strcmp(why, "is missing") == 0;
        return fail(error, absent ? PF_USAGE : PF_REFUSED, "Copy the whole bundle again.", "%s %s", member->path, why);
    }
    pf_code code = PF_OK;
    if (member->sized && size != member->size)
        code = fail(error, PF_REFUSED, "The file was changed or only partly copied: copy the bundle again.",
                    "%s has %llu bytes instead of %llu", member->path, (unsigned long long)size,
                    (unsigned long long)member->size);
    else if (size > member->limit)
        code = fail(error, PF_REFUSED, HINT_DAMAGED, "%s has %llu bytes, more than the %llu allowed", member->path,
                    (unsigned long long)size, (unsigned long long)member->limit);
    if (code == PF_OK && member->bytes) {
        member->bytes->length = (size_t)size;
        member->bytes->data = malloc((size_t)size + 1);
        if (!member->bytes->data)
            code = no_memory(error);
    }
    if (code == PF_OK && (member->bytes || member->sha256)) {
        sha256_begin(&hash);
        if (!read_descriptor(file, size, member->bytes, member->sha256 ? &hash : NULL))
            code = fail(error, PF_REFUSED, "Do not change a bundle while it is read.", "%s cannot be read whole",
                        member->path);
        else if (member->sha256)
            sha256_end(&hash, member->sha256);
    }
    close(file);
    if (code != PF_OK && member->bytes)
        bytes_free(member->bytes);
    return code;
}
