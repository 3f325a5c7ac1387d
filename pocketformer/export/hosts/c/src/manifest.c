/* manifest.json: what a bundle is, how to feed it, what its answers mean, and the hashes of its files. */

#define MANIFEST_LIMIT ((uint64_t)1 << 20)
#define GOLDEN_LIMIT ((uint64_t)16 << 20)
#define TOKENIZER_LIMIT ((uint64_t)64 << 20)
#define FILE_LIMIT ((uint64_t)2 << 30)
#define FILES_LIMIT 1000
#define LARGEST_LENGTH ((int64_t)1 << 20)

/* What a text gives a graph, in this order. */
static const char *const text_inputs[] = {"input_ids", "attention_mask", "token_type_ids", NULL};
enum { INPUT_IDS, ATTENTION_MASK, TOKEN_TYPE_IDS, TEXT_INPUTS };

enum { OPTIMIZE_ALL, OPTIMIZE_EXTENDED, OPTIMIZE_BASIC, OPTIMIZE_NONE };

struct listed_file {
    const char *path, *sha256;
    uint64_t bytes;
};

struct manifest {
    struct arena arena; /* holds all texts below */
    const char *name, *precision, *graph, *golden_file, *tokenizer_file, *engine;
    bool inputs[TEXT_INPUTS];
    size_t max_length;
    int64_t pad_id;
    const char **labels;
    size_t label_count;
    double tolerance;
    int threads, optimization;
    bool spinning, memory_arena, cpu_only;
    struct listed_file *files;
    size_t file_count;
};

static void manifest_free(struct manifest *manifest)
{
    arena_free(&manifest->arena);
}

static const struct listed_file *listed(const struct manifest *manifest, const char *path)
{
    for (size_t index = 0; index < manifest->file_count; index++)
        if (strcmp(manifest->files[index].path, path) == 0)
            return &manifest->files[index];
    return NULL;
}

/* One of `inputs` or `outputs`: a list of objects with a name, a type and axes. */
static bool read_tensors(const struct fields *top, const char *key, struct manifest *manifest)
{
    const struct json *list = field_of(top, key, JSON_ARRAY, "a list");
    bool inputs = strcmp(key, "inputs") == 0;
    int index = 0;
    if (!list)
        return false;
    if (list->length == 0)
        return field_wrong(top, key, "a list that is not empty");
    for (const struct json *item = list->items; item; item = item->next, index++) {
        struct fields fields = {.object = item, .error = top->error};
        const char *dtype, *name, **axes;
        size_t axis_count;
        int input;
        snprintf(fields.place, sizeof fields.place, "%s[%d].", key, index);
        if (item->type != JSON_OBJECT)
            return field_wrong(top, key, "a list of objects");
        if (!field_text(&fields, "name", &name) || !field_text(&fields, "dtype", &dtype) ||
            !field_names(&fields, "axes", &manifest->arena, &axes, &axis_count))
            return false;
        if (inputs) {
            if (!field_choice(&fields, "name", text_inputs, &input))
                return false;
            if (strcmp(dtype, "int64") != 0)
                return field_wrong(&fields, "dtype", "'int64'");
            manifest->inputs[input] = true;
        }
    }
    return true;
}

static bool read_session(const struct fields *top, struct manifest *manifest)
{
    static const char *const optimizations[] = {"all", "extended", "basic", "none", NULL};
    struct fields fields;
    int64_t threads;
    if (!field_object(top, "session", &fields) || !field_integer(&fields, "intra_op_threads", 0, 1024, &threads) ||
        !field_boolean(&fields, "spinning", &manifest->spinning) ||
        !field_choice(&fields, "graph_optimization", optimizations, &manifest->optimization) ||
        !field_boolean(&fields, "memory_arena", &manifest->memory_arena))
        return false;
    manifest->threads = (int)threads;
    manifest->cpu_only = true;
    if (json_get(fields.object, "providers")) {
        const char **providers;
        size_t count;
        if (!field_names(&fields, "providers", &manifest->arena, &providers, &count))
            return false;
        manifest->cpu_only = count == 1 && strcmp(providers[0], "CPUExecutionProvider") == 0;
    }
    return true;
}

static bool read_engine(const struct fields *top, struct manifest *manifest)
{
    static const char *const engines[] = {"onnxruntime", "openvino", "tensorrt", "tensorrt_rtx", NULL};
    struct fields fields;
    int chosen = 0;
    const char *version;
    if (json_get(top->object, "engine")) {
        if (!field_object(top, "engine", &fields) || !field_choice(&fields, "name", engines, &chosen))
            return false;
        const struct json *minimum = json_get(fields.object, "minimum_version");
        if (minimum && minimum->type != JSON_NULL) {
            if (!field_text(&fields, "minimum_version", &version))
                return false;
            bool good = version[0] != '.' && version[strlen(version) - 1] != '.' && !strstr(version, "..");
            if (!good || strspn(version, "0123456789.") != strlen(version))
                return field_wrong(&fields, "minimum_version", "numbers with dots");
        }
    }
    manifest->engine = engines[chosen];
    return true;
}

static bool read_files(const struct fields *top, struct manifest *manifest)
{
    struct fields files;
    if (!field_object(top, "files", &files))
        return false;
    if (files.object->length > FILES_LIMIT)
        return field_wrong(top, "files", "an object of at most 1000 files");
    manifest->files = arena_array(&manifest->arena, files.object->length + 1, sizeof *manifest->files);
    if (!manifest->files) {
        no_memory(top->error);
        return false;
    }
    for (const struct json *item = files.object->items; item; item = item->next) {
        struct listed_file *file = &manifest->files[manifest->file_count];
        struct fields fields = {.object = item, .error = top->error};
        int64_t bytes;
        snprintf(fields.place, sizeof fields.place, "files['%.100s'].", item->key);
        if (memchr(item->key, 0, item->key_length) || !is_member_path(item->key))
            return field_wrong(&fields, "", "under a path inside the bundle with forward slashes");
        if (item->type != JSON_OBJECT)
            return field_wrong(&fields, "", "an object");
        if (!field_text(&fields, "sha256", &file->sha256) || !field_integer(&fields, "bytes", 0, (int64_t)FILE_LIMIT, &bytes))
            return false;
        if (strlen(file->sha256) != 64 || strspn(file->sha256, "0123456789abcdef") != 64)
            return field_wrong(&fields, "sha256", "64 lower-case hexadecimal digits");
        file->path = item->key;
        file->bytes = (uint64_t)bytes;
        if (listed(manifest, file->path)) /* counts entries before this one */
            return field_wrong(&fields, "", "listed once");
        manifest->file_count++;
    }
    return true;
}

/* What no single field can tell: the files named are listed, and no larger than they may be. */
static bool check_named(const struct fields *top, const struct manifest *manifest, const char *key, const char *path,
                        uint64_t limit)
{
    const struct listed_file *file = listed(manifest, path);
    if (!file)
        return field_wrong(top, key, "a file listed in `files`");
    if (file->bytes <= limit)
        return true;
    fail(top->error, PF_REFUSED, HINT_DAMAGED, MANIFEST_FILE ": %s has %llu bytes, more than the %llu allowed", path,
         (unsigned long long)file->bytes, (unsigned long long)limit);
    return false;
}

static bool ends_with(const char *text, const char *end)
{
    size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static bool check_files_named(const struct fields *top, const struct manifest *manifest)
{
    bool split = ends_with(manifest->graph, ".xml");
    if (split ? strcmp(manifest->engine, "openvino") != 0
              : !ends_with(manifest->graph, ".onnx") && !ends_with(manifest->graph, ".engine"))
        return field_wrong(top, "graph", "a file that ends in .onnx, .xml, .engine, as its engine has it");
    if (split) { /* OpenVINO's weights lie beside its graph */
        char weights[PATH_MAX];
        size_t stem = strlen(manifest->graph) - 4;
        if (stem > sizeof weights - 5)
            return field_wrong(top, "graph", "a shorter path");
        memcpy(weights, manifest->graph, stem);
        memcpy(weights + stem, ".bin", 5);
        if (!check_named(top, manifest, "the weights of graph", weights, FILE_LIMIT))
            return false;
    }
    return check_named(top, manifest, "graph", manifest->graph, FILE_LIMIT) &&
           check_named(top, manifest, "golden_file", manifest->golden_file, GOLDEN_LIMIT) &&
           check_named(top, manifest, "preprocessing.tokenizer_file", manifest->tokenizer_file, TOKENIZER_LIMIT);
}

static bool read_fields(const struct fields *top, struct manifest *manifest)
{
    static const char *const tasks[] = {"text-classification", NULL}, *const text[] = {"text", NULL},
                             *const softmax[] = {"softmax_labels", NULL};
    struct fields pre, post, object;
    const char *target;
    int64_t max_length;
    int chosen;
    if (!field_text(top, "name", &manifest->name) || !field_choice(top, "task", tasks, &chosen) ||
        !field_text(top, "target", &target) || !field_text(top, "precision", &manifest->precision) ||
        !field_path(top, "graph", &manifest->graph) || !read_tensors(top, "inputs", manifest) ||
        !read_tensors(top, "outputs", manifest))
        return false;
    if (!field_object(top, "preprocessing", &pre) || !field_choice(&pre, "kind", text, &chosen) ||
        !field_path(&pre, "tokenizer_file", &manifest->tokenizer_file) ||
        !field_integer(&pre, "max_length", 1, LARGEST_LENGTH, &max_length) ||
        !field_integer(&pre, "pad_id", 0, INT32_MAX, &manifest->pad_id))
        return false;
    manifest->max_length = (size_t)max_length;
    if (!field_object(top, "postprocessing", &post) || !field_choice(&post, "kind", softmax, &chosen) ||
        !field_names(&post, "labels", &manifest->arena, &manifest->labels, &manifest->label_count))
        return false;
    if (!read_engine(top, manifest) || !read_session(top, manifest) ||
        !field_path(top, "golden_file", &manifest->golden_file) ||
        !field_number(top, "tolerance", &manifest->tolerance) || !field_object(top, "provenance", &object) ||
        !field_object(top, "runtime", &object))
        return false;
    for (const struct json *item = object.object->items; item; item = item->next)
        if (item->type != JSON_TEXT || item->length == 0)
            return field_wrong(top, "runtime", "an object of texts that are not empty");
    return read_files(top, manifest) && check_files_named(top, manifest);
}

/* Read the bytes of a manifest; `manifest` is to be freed whatever comes of it. */
static pf_code manifest_read(struct manifest *manifest, const struct bytes *bytes, pf_error *error)
{
    const char *problem;
    size_t where;
    pf_error local;
    int64_t version;
    memset(manifest, 0, sizeof *manifest);
    error = error ? error : &local;
    struct fields top = {.error = error};
    top.object = json_read(&manifest->arena, bytes->data, bytes->length, false, &problem, &where);
    if (!top.object)
        return fail(error, PF_REFUSED, HINT_DAMAGED, MANIFEST_FILE " is not JSON: %s, at byte %zu", problem, where);
    if (top.object->type != JSON_OBJECT)
        return fail(error, PF_REFUSED, HINT_DAMAGED, MANIFEST_FILE ": the document must be a JSON object");
    if (json_repeats(&manifest->arena, top.object))
        return fail(error, PF_REFUSED, HINT_DAMAGED, MANIFEST_FILE ": a key stands there twice");
    if (!field_integer(&top, "schema_version", 1, INT64_MAX, &version))
        return error->code;
    if (version > 1)
        return fail(error, PF_REFUSED, "A newer pocketformer wrote this bundle: take its C sources.",
                    MANIFEST_FILE " has schema_version %lld; this version reads up to 1", (long long)version);
    return read_fields(&top, manifest) ? PF_OK : error->code;
}
