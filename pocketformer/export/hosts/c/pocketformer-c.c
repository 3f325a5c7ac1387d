/* pocketformer-c: verify a bundle, or answer texts with it, from a shell.
 *
 * It takes the library in as a whole, because it reads its texts with the same JSON reader. */
#include "pocketformer.c"

static const char usage[] =
    "Usage: pocketformer-c verify BUNDLE [--key PUBLIC.pem] [--json]\n"
    "       pocketformer-c answers BUNDLE TEXTS.jsonl [--key PUBLIC.pem]\n"
    "       pocketformer-c tokens BUNDLE TEXTS.jsonl [--key PUBLIC.pem]\n"
    "\n"
    "verify   check the files and replay the golden samples, one line a check\n"
    "answers  for each line {\"text\": ...}: ids, logits, label and score, as a line of JSON\n"
    "tokens   for each line {\"text\": ...}: ids, as a line of JSON\n"
    "\n"
    "--onnxruntime PATH names libonnxruntime (else $POCKETFORMER_ONNXRUNTIME, else libonnxruntime.so.1).\n"
    "Exit codes: 0 done, 2 usage, 4 something is missing here, 5 the bundle fails.\n";

static int tell(const pf_error *error)
{
    fprintf(stderr, "Error: %s\n", error->message);
    if (error->hint[0])
        fprintf(stderr, "%s\n", error->hint);
    return (int)error->code;
}

/* All of a file, with a NUL after it; false with `error` filled. */
static bool read_whole(const char *path, struct bytes *bytes, pf_error *error)
{
    FILE *file = fopen(path, "rb");
    size_t capacity = 1 << 16, got;
    bytes->length = 0;
    bytes->data = file ? malloc(capacity) : NULL;
    while (bytes->data && (got = fread(bytes->data + bytes->length, 1, capacity - 1 - bytes->length, file)) > 0) {
        bytes->length += got;
        if (capacity - 1 - bytes->length > 0)
            continue;
        unsigned char *larger = capacity <= SIZE_MAX / 2 ? realloc(bytes->data, capacity *= 2) : NULL;
        if (!larger)
            bytes_free(bytes);
        else
            bytes->data = larger;
    }
    bool good = bytes->data && !ferror(file);
    if (file)
        fclose(file);
    if (good)
        bytes->data[bytes->length] = '\0';
    else
        fail(error, PF_USAGE, "", "%.500s cannot be read", path);
    return good;
}

/* A text as JSON, in ASCII. */
static void print_json_text(const char *text, size_t length)
{
    size_t position = 0;
    putchar('"');
    while (position < length) {
        uint32_t point;
        utf8_next((const unsigned char *)text, length, &position, &point);
        if (point >= 0x10000)
            printf("\\u%04x\\u%04x", 0xD800 + (unsigned)((point - 0x10000) >> 10), 0xDC00 + (unsigned)(point & 0x3FF));
        else if (point < 0x20 || point > 0x7E || point == '"' || point == '\\')
            printf("\\u%04x", (unsigned)point);
        else
            putchar((int)point);
    }
    putchar('"');
}

static void print_check(const pf_check *check, void *user)
{
    (void)user;
    printf("%-5s %-11s %s\n", check->ok ? "ok" : "FAIL", check->name, check->detail);
    fflush(stdout);
}

static void print_check_json(const pf_check *check, void *user)
{
    size_t *count = user;
    printf("%s{\"name\": \"%s\", \"ok\": %s, \"detail\": ", (*count)++ ? ", " : "", check->name,
           check->ok ? "true" : "false");
    print_json_text(check->detail, strlen(check->detail));
    putchar('}');
}

static int verify_bundle(const char *bundle, const pf_options *options, bool json)
{
    pf_error error;
    size_t count = 0;
    if (json)
        printf("{\"checks\": [");
    pf_code code = pf_verify(bundle, options, json ? print_check_json : print_check, &count, &error);
    if (json)
        printf("], \"ok\": %s}\n", code == PF_OK ? "true" : "false");
    return code == PF_OK || code == PF_REFUSED ? (int)code : tell(&error);
}

static void print_numbers(const int64_t *ids, size_t count)
{
    printf("{\"input_ids\": [");
    for (size_t index = 0; index < count; index++)
        printf("%s%lld", index ? ", " : "", (long long)ids[index]);
    putchar(']');
}

/* One line of the texts; `logits` is NULL for the ids alone. */
static pf_code answer_line(const pf_model *model, const unsigned char *line, size_t length, int64_t *ids, float *logits,
                           pf_error *error)
{
    struct arena arena = {NULL};
    const char *problem;
    size_t where, count = 0;
    const struct json *text = json_get(json_read(&arena, line, length, true, &problem, &where), "text");
    pf_code code = text && text->type == JSON_TEXT
                       ? pf_tokenize(model, text->text, text->length, ids, &count, error)
                       : fail(error, PF_USAGE, "", "it is no JSON object with a text under \"text\"");
    if (code == PF_OK && logits)
        code = pf_run(model, ids, count, logits, error);
    if (code == PF_OK) {
        print_numbers(ids, count);
        if (logits) {
            const pf_answer answer = pf_decode(model, logits);
            printf(", \"logits\": [");
            for (size_t index = 0; index < pf_label_count(model); index++)
                printf("%s%.17g", index ? ", " : "", (double)logits[index]);
            printf("], \"label\": ");
            print_json_text(answer.label, strlen(answer.label));
            printf(", \"score\": %.17g", answer.score);
        }
        puts("}");
    }
    arena_free(&arena);
    return code;
}

static int answer_texts(const pf_model *model, const char *path, bool with_logits)
{
    pf_error error;
    struct bytes texts;
    if (!read_whole(path, &texts, &error))
        return tell(&error);
    int64_t *ids = malloc(pf_max_length(model) * sizeof *ids);
    float *logits = with_logits ? malloc(pf_label_count(model) * sizeof *logits) : NULL;
    pf_code code = ids && (logits || !with_logits) ? PF_OK : no_memory(&error);
    const unsigned char *line = texts.data, *end = texts.data + texts.length;
    for (size_t number = 1; code == PF_OK && line < end; number++) {
        const unsigned char *newline = memchr(line, '\n', (size_t)(end - line)), *stop = newline ? newline : end;
        if (stop > line)
            code = answer_line(model, line, (size_t)(stop - line), ids, logits, &error);
        if (code != PF_OK)
            fprintf(stderr, "%s, line %zu:\n", path, number);
        line = stop + 1;
    }
    free(ids);
    free(logits);
    bytes_free(&texts);
    return code == PF_OK ? 0 : tell(&error);
}

int main(int argument_count, char **arguments)
{
    const char *words[3] = {"", "", ""}, *key = NULL;
    pf_options options = {.onnxruntime = NULL};
    struct bytes pem = {NULL, 0};
    pf_error error;
    int count = 0, code = PF_USAGE;
    bool json = false, good = true;
    for (int index = 1; index < argument_count; index++) {
        const char *argument = arguments[index];
        bool value = index + 1 < argument_count;
        if (strcmp(argument, "--json") == 0)
            json = true;
        else if (strcmp(argument, "--key") == 0 && value)
            key = arguments[++index];
        else if (strcmp(argument, "--onnxruntime") == 0 && value)
            options.onnxruntime = arguments[++index];
        else if (argument[0] == '-' || count == 3)
            good = false;
        else
            words[count++] = argument;
    }
    bool verify = strcmp(words[0], "verify") == 0, answers = strcmp(words[0], "answers") == 0;
    if (!good || count != (verify ? 2 : 3) || !(verify || answers || strcmp(words[0], "tokens") == 0)) {
        fputs(usage, stderr);
        return PF_USAGE;
    }
    if (key && !read_whole(key, &pem, &error))
        return tell(&error);
    options.public_key_pem = (const char *)pem.data;
    options.tokenizer_only = !verify && !answers;
    if (verify) {
        code = verify_bundle(words[1], &options, json);
    } else {
        pf_model *model = pf_load(words[1], &options, &error);
        code = model ? answer_texts(model, words[2], answers) : tell(&error);
        pf_free(model);
    }
    bytes_free(&pem);
    return code;
}
