/* fuzz_readers ROUNDS FILE...: changes files of a bundle in many ways and has every reader of them read the result.
 *
 * The same for the same arguments; what it may find is the sanitizers' business. Prints how much was taken for whole. */
#include "pocketformer.c"

static uint64_t state = UINT64_C(88172645463325252);

/* xorshift64 (Marsaglia 2003); below `limit`, which is above 0. */
static size_t any_below(size_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (size_t)(state % limit);
}

static struct bytes changed(const struct bytes *from)
{
    static const char *const words[] = {"[", "{\"a\":", "]", "}", "\"", "\\u", "\\ud800", "1e999", "-", "0", "null", "\xff",
                                        "99999999999999999999", "\"ids\":", ",", "../", "\\", "[[[[[[[[[[[[[[[["};
    struct bytes to = {malloc(from->length + 64), from->length};
    if (!to.data)
        exit(1);
    memcpy(to.data, from->data, from->length);
    for (size_t edits = 1 + any_below(4); edits > 0 && to.length > 0; edits--) {
        size_t place = any_below(to.length), length = 1 + any_below(to.length - place);
        const char *word = words[any_below(sizeof words / sizeof *words)];
        switch (any_below(5)) {
        case 0:
            to.data[place] = (unsigned char)any_below(256);
            break;
        case 1:
            to.length = place; /* cut off */
            break;
        case 2:
            memmove(to.data + place, to.data + place + length, to.length - place - length);
            to.length -= length; /* a part left out */
            break;
        case 3:
            to.data[place] ^= (unsigned char)(1u << any_below(8));
            break;
        default:
            length = strlen(word);
            if (to.length + length <= from->length + 64) {
                memmove(to.data + place + length, to.data + place, to.length - place);
                memcpy(to.data + place, word, length);
                to.length += length;
            }
        }
    }
    /* At its exact size, so that one byte too many is seen. */
    unsigned char *exact = malloc(to.length + 1);
    if (!exact)
        exit(1);
    memcpy(exact, to.data, to.length);
    free(to.data);
    exact = realloc(exact, to.length ? to.length : 1);
    return (struct bytes){exact, to.length};
}

static int read_all(const struct bytes *bytes)
{
    struct manifest manifest;
    struct tokenizer tokenizer;
    struct golden golden;
    struct arena arena = {NULL};
    struct code_points points = {NULL, 0, 0};
    unsigned char key[32];
    const char *problem;
    size_t where, count;
    pf_error error;
    int64_t ids[64];
    int taken = json_read(&arena, bytes->data, bytes->length, true, &problem, &where) != NULL;
    arena_free(&arena);
    taken += manifest_read(&manifest, bytes, &error) == PF_OK;
    manifest_free(&manifest);
    if (tokenizer_read(&tokenizer, bytes, 64, &error) == PF_OK) {
        taken++;
        if (!tokenize(&tokenizer, "Where is [MASK] \xc3\x89 now, 2024?", 29, ids, 64, &count))
            exit(1);
    }
    tokenizer_free(&tokenizer);
    taken += golden_read(&golden, bytes, &error) == PF_OK;
    golden_free(&golden);
    taken += graph_refused(bytes) == NULL;
    char *text = malloc(bytes->length + 1);
    if (!text)
        exit(1);
    memcpy(text, bytes->data, bytes->length);
    text[bytes->length] = '\0';
    taken += read_public_key(text, key);
    free(text);
    if (!utf8_decode((const char *)bytes->data, bytes->length, &points))
        exit(1);
    code_points_free(&points);
    return taken;
}

int main(int count, char **arguments)
{
    struct bytes files[8] = {{NULL, 0}};
    long rounds = atol(arguments[1]), taken = 0;
    int file_count = count - 2 < 8 ? count - 2 : 8;
    for (int index = 0; index < file_count; index++) {
        FILE *file = fopen(arguments[index + 2], "rb");
        files[index].data = malloc(1 << 20);
        if (!file || !files[index].data)
            return 1;
        files[index].length = fread(files[index].data, 1, 1 << 20, file);
        fclose(file);
    }
    for (long round = 0; round < rounds; round++) {
        struct bytes bytes = changed(&files[round % file_count]);
        taken += read_all(&bytes);
        bytes_free(&bytes);
    }
    for (int index = 0; index < file_count; index++)
        bytes_free(&files[index]);
    printf("%ld rounds, %ld readings taken for whole\n", rounds, taken);
    return 0;
}
