/* Memory: an arena for what lives as long as a document, a growing array of code points, bytes of a file. */

struct arena_block {
    struct arena_block *next;
    size_t used, size;
    max_align_t data[];
};

struct arena {
    struct arena_block *blocks;
};

#define ARENA_BLOCK ((size_t)64 * 1024)

/* `size` bytes, zeroed; NULL when there is no memory. */
static void *arena_take(struct arena *arena, size_t size)
{
    struct arena_block *block = arena->blocks;
    if (size > SIZE_MAX / 2)
        return NULL;
    size = (size + sizeof(max_align_t) - 1) / sizeof(max_align_t) * sizeof(max_align_t);
    if (!block || block->size - block->used < size) {
        size_t wanted = size > ARENA_BLOCK ? size : ARENA_BLOCK;
        block = malloc(sizeof *block + wanted);
        if (!block)
            return NULL;
        block->used = 0;
        block->size = wanted;
        block->next = arena->blocks;
        arena->blocks = block;
    }
    char *place = (char *)block->data + block->used;
    block->used += size;
    return memset(place, 0, size);
}

static void *arena_array(struct arena *arena, size_t count, size_t size)
{
    return count > SIZE_MAX / 2 / size ? NULL : arena_take(arena, count * size);
}

static void arena_free(struct arena *arena)
{
    while (arena->blocks) {
        struct arena_block *next = arena->blocks->next;
        free(arena->blocks);
        arena->blocks = next;
    }
}

struct bytes {
    unsigned char *data;
    size_t length;
};

static void bytes_free(struct bytes *bytes)
{
    free(bytes->data);
    bytes->data = NULL;
    bytes->length = 0;
}

struct code_points {
    uint32_t *data;
    size_t length, capacity;
};

static void code_points_free(struct code_points *points)
{
    free(points->data);
    points->data = NULL;
    points->length = points->capacity = 0;
}

/* Make room for `more`; false when there is no memory. */
static bool code_points_reserve(struct code_points *points, size_t more)
{
    const size_t most = SIZE_MAX / sizeof(uint32_t) / 2;
    if (points->capacity - points->length >= more)
        return true;
    if (more > most || points->length > most - more)
        return false;
    size_t capacity = points->length + more;
    if (capacity < most / 2)
        capacity += capacity / 2 + 16;
    uint32_t *data = realloc(points->data, capacity * sizeof *data);
    if (!data)
        return false;
    points->data = data;
    points->capacity = capacity;
    return true;
}

static bool code_points_add(struct code_points *points, uint32_t point)
{
    if (!code_points_reserve(points, 1))
        return false;
    points->data[points->length++] = point;
    return true;
}
