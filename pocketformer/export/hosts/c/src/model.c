/* A bundle that answers. */

struct pf_model {
    struct manifest manifest;
    struct tokenizer tokenizer;
    struct session session;
    bool has_session;
};

/* What is read of a bundle before a model is made of it. */
struct bundle {
    int folder;
    struct bytes manifest, graph, tokenizer, golden;
};

static void bundle_close(struct bundle *bundle)
{
    if (bundle->folder >= 0)
        close(bundle->folder);
    bytes_free(&bundle->manifest);
    bytes_free(&bundle->graph);
    bytes_free(&bundle->tokenizer);
    bytes_free(&bundle->golden);
}

static pf_code bundle_open(struct bundle *bundle, const char *directory, pf_error *error)
{
    memset(bundle, 0, sizeof *bundle);
    bundle->folder = directory && *directory ? open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (bundle->folder < 0)
        return fail(error, PF_USAGE, "Give the directory of a bundle; it holds " MANIFEST_FILE ".", "no bundle at %.300s",
                    directory && *directory ? directory : "an empty path");
    return PF_OK;
}

static pf_code bundle_read_manifest(struct bundle *bundle, pf_error *error)
{
    const struct member member = {.path = MANIFEST_FILE, .limit = MANIFEST_LIMIT, .bytes = &bundle->manifest};
    return read_member(bundle->folder, &member, error);
}

/* With a key: the manifest's bytes are signed by it. Nothing was parsed before. */
static pf_code bundle_check_signature(struct bundle *bundle, const pf_options *options, pf_error *error)
{
    struct bytes signature = {NULL, 0};
    const struct member member = {.path = SIGNATURE_FILE, .limit = SIGNATURE_LENGTH, .bytes = &signature};
    pf_code code = read_member(bundle->folder, &member, error);
    if (code == PF_USAGE)
        code = fail(error, PF_REFUSED, "Use a bundle that is signed, or no key.",
                    "the bundle is not signed: it has no " SIGNATURE_FILE);
    if (code == PF_OK)
        code = check_signature(options->public_key_pem, options->libcrypto, &signature, &bundle->manifest, error);
    bytes_free(&signature);
    return code;
}

/* Compare one listed file with the manifest, its hash where `hashed`, and keep its bytes where they will be used. */
static pf_code bundle_read_file(struct bundle *bundle, const struct manifest *manifest, const struct listed_file *file,
                                bool hashed, bool with_graph, bool with_golden, pf_error *error)
{
    char digest[65];
    struct member member = {.path = file->path, .limit = UINT64_MAX, .sized = true, .size = file->bytes,
                            .sha256 = hashed ? digest : NULL};
    if (strcmp(file->path, manifest->tokenizer_file) == 0)
        member.bytes = &bundle->tokenizer;
    else if (with_graph && strcmp(file->path, manifest->graph) == 0)
        member.bytes = &bundle->graph;
    else if (with_golden && strcmp(file->path, manifest->golden_file) == 0)
        member.bytes = &bundle->golden;
    pf_code code = read_member(bundle->folder, &member, error);
    if (code == PF_OK && hashed && strcmp(digest, file->sha256) != 0)
        code = fail(error, PF_REFUSED, "The file was changed: copy the bundle again.",
                    "%s has another SHA-256 than the manifest says", file->path);
    return code;
}

/* Tokenizer and session out of the bytes of `bundle`, which holds what the manifest in `model` names. */
static pf_code model_build(pf_model *model, struct bundle *bundle, const pf_options *options, pf_error *error)
{
    const struct manifest *manifest = &model->manifest;
    pf_code code = tokenizer_read(&model->tokenizer, &bundle->tokenizer, manifest->max_length, error);
    if (code != PF_OK || options->tokenizer_only)
        return code;
    model->has_session = true;
    code = session_open(&model->session, &bundle->graph, manifest, options->onnxruntime, options->threads, error);
    bytes_free(&bundle->graph); /* onnxruntime has its own copy */
    float *logits = malloc(manifest->label_count * sizeof *logits);
    int64_t *ids = malloc(manifest->max_length * sizeof *ids);
    size_t count;
    if (code == PF_OK && (!logits || !ids))
        code = no_memory(error);
    if (code == PF_OK) /* does the graph have as many outputs as there are labels? */
        code = pf_tokenize(model, "a", 1, ids, &count, error);
    if (code == PF_OK)
        code = pf_run(model, ids, count, logits, error);
    free(ids);
    free(logits);
    return code;
}

pf_model *pf_load(const char *directory, const pf_options *options, pf_error *error)
{
    static const pf_options defaults = {.onnxruntime = NULL};
    struct bundle bundle;
    clear_error(error);
    options = options ? options : &defaults;
    bool signed_by = options->public_key_pem != NULL;
    pf_model *model = calloc(1, sizeof *model);
    if (!model) {
        no_memory(error);
        return NULL;
    }
    pf_code code = bundle_open(&bundle, directory, error);
    if (code == PF_OK)
        code = bundle_read_manifest(&bundle, error);
    if (code == PF_OK && signed_by)
        code = bundle_check_signature(&bundle, options, error);
    if (code == PF_OK)
        code = manifest_read(&model->manifest, &bundle.manifest, error);
    for (size_t index = 0; code == PF_OK && index < model->manifest.file_count; index++)
        code = bundle_read_file(&bundle, &model->manifest, &model->manifest.files[index], signed_by,
                                !options->tokenizer_only, false, error);
    if (code == PF_OK)
        code = model_build(model, &bundle, options, error);
    bundle_close(&bundle);
    if (code == PF_OK)
        return model;
    pf_free(model);
    return NULL;
}

void pf_free(pf_model *model)
{
    if (!model)
        return;
    if (model->has_session)
        session_close(&model->session);
    tokenizer_free(&model->tokenizer);
    manifest_free(&model->manifest);
    free(model);
}

size_t pf_label_count(const pf_model *model)
{
    return model->manifest.label_count;
}

const char *pf_label(const pf_model *model, size_t index)
{
    return index < model->manifest.label_count ? model->manifest.labels[index] : NULL;
}

size_t pf_max_length(const pf_model *model)
{
    return model->manifest.max_length;
}

pf_code pf_tokenize(const pf_model *model, const char *text, size_t length, int64_t *ids, size_t *count, pf_error *error)
{
    clear_error(error);
    return tokenize(&model->tokenizer, text, length, ids, model->manifest.max_length, count) ? PF_OK : no_memory(error);
}

pf_code pf_run(const pf_model *model, const int64_t *ids, size_t count, float *logits, pf_error *error)
{
    clear_error(error);
    if (!model->has_session)
        return fail(error, PF_USAGE, "Load it without tokenizer_only.", "the model was loaded for its tokenizer only");
    if (count > model->manifest.max_length)
        return fail(error, PF_USAGE, "", "%zu tokens are more than the %zu of the longest input", count,
                    model->manifest.max_length);
    /* No graph takes zero tokens: one of padding, which is not looked at, stands for them. */
    size_t length = count > 0 ? count : 1;
    int64_t *numbers = calloc(TEXT_INPUTS * length, sizeof *numbers);
    if (!numbers)
        return no_memory(error);
    int64_t *const feeds[TEXT_INPUTS] = {numbers, numbers + length, numbers + 2 * length};
    feeds[INPUT_IDS][0] = model->manifest.pad_id;
    for (size_t index = 0; index < count; index++) {
        feeds[INPUT_IDS][index] = ids[index];
        feeds[ATTENTION_MASK][index] = 1;
    }
    token_types(&model->tokenizer, feeds[TOKEN_TYPE_IDS], count);
    pf_code code = session_run(&model->session, feeds, length, logits, model->manifest.label_count, error);
    free(numbers);
    return code;
}

pf_answer pf_decode(const pf_model *model, const float *logits)
{
    pf_answer answer = {NULL, 0, 0.0};
    double total = 0.0;
    for (size_t index = 1; index < model->manifest.label_count; index++)
        if (logits[index] > logits[answer.index])
            answer.index = index;
    for (size_t index = 0; index < model->manifest.label_count; index++)
        total += exp((double)logits[index] - (double)logits[answer.index]);
    answer.score = 1.0 / total;
    answer.label = model->manifest.labels[answer.index];
    return answer;
}

pf_code pf_predict(const pf_model *model, const char *text, size_t length, pf_answer *answer, pf_error *error)
{
    size_t count = 0;
    int64_t *ids = malloc(model->manifest.max_length * sizeof *ids);
    float *logits = malloc(model->manifest.label_count * sizeof *logits);
    pf_code code = ids && logits ? pf_tokenize(model, text, length, ids, &count, error) : no_memory(error);
    if (code == PF_OK)
        code = pf_run(model, ids, count, logits, error);
    if (code == PF_OK)
        *answer = pf_decode(model, logits);
    free(ids);
    free(logits);
    return code;
}
