/* The vocabulary: pieces to ids, a hash table with open addressing.
 *
 * The hash is FNV-1a, taken byte by byte, so that all beginnings of a word are hashed in one pass. */

#define FNV_START UINT64_C(14695981039346656037)
#define NO_ID UINT32_MAX

struct piece {
    const char *text; /* NULL: an empty place */
    uint64_t hash;
    uint32_t length, id;
};

struct vocabulary {
    struct piece *pieces;
    size_t mask;    /* places - 1, a power of two less one */
    size_t count;
    size_t longest; /* bytes of the longest piece */
};

static uint64_t hash_more(uint64_t hash, const char *text, size_t length)
{
    for (size_t index = 0; index < length; index++)
        hash = (hash ^ (unsigned char)text[index]) * UINT64_C(1099511628211);
    return hash;
}

/* Room for `count` pieces; false when there is no memory. */
static bool vocabulary_begin(struct vocabulary *vocabulary, struct arena *arena, size_t count)
{
    size_t places = 16;
    while (places < SIZE_MAX / 4 && places < 2 * count)
        places *= 2;
    vocabulary->pieces = arena_array(arena, places, sizeof *vocabulary->pieces);
    vocabulary->mask = places - 1;
    return vocabulary->pieces != NULL;
}

/* Its place, or the empty one where it would stand. FNV's low bits follow the last bytes closely; the high ones mix. */
static struct piece *vocabulary_place(const struct vocabulary *vocabulary, uint64_t hash, const char *prefix,
                                      size_t prefix_length, const char *text, size_t length)
{
    size_t place = (size_t)(hash ^ hash >> 32) & vocabulary->mask;
    for (;; place = (place + 1) & vocabulary->mask) {
        struct piece *piece = &vocabulary->pieces[place];
        if (!piece->text || (piece->hash == hash && piece->length == prefix_length + length &&
                             memcmp(piece->text, prefix, prefix_length) == 0 &&
                             memcmp(piece->text + prefix_length, text, length) == 0))
            return piece;
    }
}

/* Add a piece; a later id takes the place of an earlier one. `text` must outlive the vocabulary. */
static void vocabulary_add(struct vocabulary *vocabulary, const char *text, uint32_t length, uint32_t id)
{
    uint64_t hash = hash_more(FNV_START, text, length);
    struct piece *piece = vocabulary_place(vocabulary, hash, "", 0, text, length);
    vocabulary->count += !piece->text;
    vocabulary->longest = length > vocabulary->longest ? length : vocabulary->longest;
    *piece = (struct piece){.text = text, .hash = hash, .length = length, .id = id};
}

/* The id of `prefix` and `text` together, whose hash is `hash`; NO_ID where there is no such piece. */
static uint32_t vocabulary_find(const struct vocabulary *vocabulary, uint64_t hash, const char *prefix,
                                size_t prefix_length, const char *text, size_t length)
{
    const struct piece *piece = vocabulary_place(vocabulary, hash, prefix, prefix_length, text, length);
    return piece->text ? piece->id : NO_ID;
}

static uint32_t vocabulary_id(const struct vocabulary *vocabulary, const char *text, size_t length)
{
    return vocabulary_find(vocabulary, hash_more(FNV_START, text, length), "", 0, text, length);
}
