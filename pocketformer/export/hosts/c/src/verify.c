/* The checks of a bundle, in the order and in the words of every host. */

#define SHOWN 3 /* failures that a detail spells out */
#define DETAIL 1536
#define SCORE_TOLERANCE 1e-6

struct verifying {
    pf_check_callback callback;
    void *user;
    bool ok;
};

/* What is wrong in one check: the first few in words, and how many there are. */
struct findings {
    char text[DETAIL];
    size_t count;
};

static bool report(struct verifying *run, const char *name, bool ok, const char *detail)
{
    const pf_check check = {.name = name, .ok = ok, .detail = detail};
    run->ok = run->ok && ok;
    if (run->callback)
        run->callback(&check, run->user);
    return ok;
}

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void find_wrong(struct findings *findings, const char *format, ...)
{
    size_t used = strlen(findings->text);
    if (findings->count++ >= SHOWN)
        return;
    va_list arguments;
    if (used > 0)
        used += (size_t)snprintf(findings->text + used, sizeof findings->text - used, "; ");
    va_start(arguments, format);
    if (used < sizeof findings->text)
        vsnprintf(findings->text + used, sizeof findings->text - used, format, arguments);
    va_end(arguments);
}

/* Report the findings, or what is good where there are none. */
static bool report_findings(struct verifying *run, const char *name, struct findings *findings, const char *good)
{
    size_t used = strlen(findings->text);
    if (findings->count > SHOWN && used < sizeof findings->text)
        snprintf(findings->text + used, sizeof findings->text - used, "; and %zu more", findings->count - SHOWN);
    return report(run, name, findings->count == 0, findings->count == 0 ? good : findings->text);
}

/* A text in quotation marks, cut after about 40 bytes, without control characters. */
static const char *shortened(const struct sample *sample, char shown[64])
{
    size_t position = 0, used = 1;
    shown[0] = '\'';
    while (position < sample->text_length && used < 42) {
        uint32_t point;
        utf8_next((const unsigned char *)sample->text, sample->text_length, &position, &point);
        used += utf8_put(point < 0x20 || (point >= 0x7F && point < 0xA0) ? REPLACEMENT : point, shown + used);
    }
    snprintf(shown + used, 64 - used, "%s", position < sample->text_length ? "...'" : "'");
    return shown;
}

/* PF_OK when the check goes on; a refusal is reported as a failed check of this name and becomes PF_REFUSED. */
static pf_code settle(struct verifying *run, const char *name, pf_code code, const pf_error *error, const char *good)
{
    if (code == PF_OK || code == PF_REFUSED)
        report(run, name, code == PF_OK, code == PF_OK ? good : error->message);
    return code;
}

static pf_code verify_files(struct verifying *run, struct bundle *bundle, const struct manifest *manifest, pf_error *error)
{
    struct findings wrong = {.count = 0};
    char good[96];
    for (size_t index = 0; index < manifest->file_count; index++) {
        pf_code code = bundle_read_file(bundle, manifest, &manifest->files[index], true, true, true, error);
        if (code == PF_REFUSED)
            find_wrong(&wrong, "%s", error->message);
        else if (code != PF_OK)
            return code;
    }
    snprintf(good, sizeof good, "%zu files, sizes and SHA-256 as stated", manifest->file_count);
    return report_findings(run, "files", &wrong, good) ? PF_OK : PF_REFUSED;
}

static pf_code verify_tokenizer(struct verifying *run, const pf_model *model, const struct golden *golden, pf_error *error)
{
    struct findings wrong = {.count = 0};
    char shown[64], good[96];
    int64_t *ids = malloc(model->manifest.max_length * sizeof *ids);
    pf_code code = ids ? PF_OK : no_memory(error);
    for (size_t index = 0; code == PF_OK && index < golden->count; index++) {
        const struct sample *sample = &golden->samples[index];
        size_t count = 0, same = 0;
        code = pf_tokenize(model, sample->text, sample->text_length, ids, &count, error);
        while (same < count && same < sample->id_count && ids[same] == sample->ids[same])
            same++;
        if (code == PF_OK && (same < count || same < sample->id_count))
            find_wrong(&wrong, "%s gives %zu ids instead of %zu, the first difference at %zu", shortened(sample, shown), count,
                       sample->id_count, same);
    }
    free(ids);
    if (code != PF_OK)
        return code;
    snprintf(good, sizeof good, "%zu of %zu texts give the same ids", golden->count, golden->count);
    report_findings(run, "tokenizer", &wrong, good);
    return PF_OK;
}

/* What the checks `logits` and `labels` have found so far. */
struct replay {
    struct findings logits, labels;
    double worst;
    size_t ties;
};

/* Replay one sample: golden ids to logits, golden logits to label and score. */
static pf_code replay_sample(const pf_model *model, const struct sample *sample, float *logits, struct replay *replay,
                             pf_error *error)
{
    const struct manifest *manifest = &model->manifest;
    const float *expected = sample->logits;
    double tolerance = manifest->tolerance, largest = 0.0;
    char shown[64];
    bool close = true;
    shortened(sample, shown);
    if (sample->logit_count != manifest->label_count) {
        find_wrong(&replay->logits, "%s has %zu golden logits for %zu labels", shown, sample->logit_count,
                   manifest->label_count);
        return PF_OK;
    }
    const pf_answer golden = pf_decode(model, expected);
    if (strlen(golden.label) != sample->label_length || memcmp(golden.label, sample->label, sample->label_length) != 0)
        find_wrong(&replay->labels, "%s: golden label '%.60s', golden logits say '%.60s'", shown, sample->label,
                   golden.label);
    if (sample->scored && !(fabs(sample->score - golden.score) <= SCORE_TOLERANCE))
        find_wrong(&replay->labels, "%s: golden score %.9g, golden logits give %.9g", shown, sample->score, golden.score);
    pf_code code = pf_run(model, sample->ids, sample->id_count, logits, error);
    if (code == PF_REFUSED || code == PF_USAGE)
        find_wrong(&replay->logits, "%s: %.200s", shown, error->message);
    if (code != PF_OK)
        return code == PF_INTERNAL ? code : PF_OK;
    for (size_t index = 0; index < sample->logit_count; index++) {
        double difference = fabs((double)logits[index] - (double)expected[index]);
        close = close && difference <= tolerance; /* not `>`: what is no number must fail */
        largest = difference > largest || isnan(difference) ? difference : largest;
    }
    if (!close)
        find_wrong(&replay->logits, "%s differs by %.3g", shown, largest);
    replay->worst = largest > replay->worst || isnan(largest) ? largest : replay->worst;
    size_t answer = pf_decode(model, logits).index;
    if (answer != golden.index && (double)expected[golden.index] - (double)expected[answer] > 2.0 * tolerance)
        find_wrong(&replay->labels, "%s is '%.60s' instead of '%.60s'", shown, manifest->labels[answer], golden.label);
    else if (answer != golden.index)
        replay->ties++;
    return PF_OK;
}

static pf_code verify_answers(struct verifying *run, const pf_model *model, const struct golden *golden, pf_error *error)
{
    struct replay replay = {.worst = 0.0};
    char good[160];
    float *logits = malloc(model->manifest.label_count * sizeof *logits);
    pf_code code = logits ? PF_OK : no_memory(error);
    for (size_t index = 0; code == PF_OK && index < golden->count; index++)
        code = replay_sample(model, &golden->samples[index], logits, &replay, error);
    free(logits);
    if (code != PF_OK)
        return code;
    snprintf(good, sizeof good, "largest difference %.3g, allowed %.3g", replay.worst, model->manifest.tolerance);
    report_findings(run, "logits", &replay.logits, good);
    int used = snprintf(good, sizeof good, "%zu of %zu labels are the same", golden->count - replay.ties, golden->count);
    if (replay.ties > 0)
        snprintf(good + used, sizeof good - (size_t)used, ", %zu nearly tied within the tolerance", replay.ties);
    report_findings(run, "labels", &replay.labels, good);
    return PF_OK;
}

/* Everything after the manifest. */
static pf_code verify_contents(struct verifying *run, struct bundle *bundle, pf_model *model, const pf_options *options,
                               pf_error *error)
{
    struct golden golden = {.count = 0};
    char good[96];
    pf_code code = verify_files(run, bundle, &model->manifest, error);
    if (code != PF_OK)
        return code; /* what is not as the manifest says is not parsed */
    pf_code read = golden_read(&golden, &bundle->golden, error);
    snprintf(good, sizeof good, "%zu samples", golden.count);
    read = settle(run, "golden", read, error, good);
    code = read == PF_INTERNAL ? read : model_build(model, bundle, options, error);
    snprintf(good, sizeof good, "CPUExecutionProvider, %zu labels", model->manifest.label_count);
    code = settle(run, "load", code, error, good);
    if (code == PF_OK && read == PF_OK)
        code = verify_tokenizer(run, model, &golden, error);
    if (code == PF_OK && read == PF_OK)
        code = verify_answers(run, model, &golden, error);
    golden_free(&golden);
    return code;
}

pf_code pf_verify(const char *directory, const pf_options *options, pf_check_callback callback, void *user,
                  pf_error *error)
{
    pf_options chosen = {.onnxruntime = NULL};
    struct verifying run = {.callback = callback, .user = user, .ok = true};
    struct bundle bundle;
    pf_error local;
    char good[256];
    error = error ? error : &local;
    clear_error(error);
    if (options)
        chosen = *options;
    chosen.tokenizer_only = 0;
    pf_model *model = calloc(1, sizeof *model);
    if (!model)
        return no_memory(error);
    pf_code code = bundle_open(&bundle, directory, error);
    if (code == PF_OK) {
        code = bundle_read_manifest(&bundle, error);
        code = code == PF_USAGE ? PF_REFUSED : code; /* a folder without a manifest is a damaged bundle */
        if (code == PF_OK && chosen.public_key_pem)
            code = settle(&run, "signature", bundle_check_signature(&bundle, &chosen, error), error,
                          "Ed25519, by the holder of the key");
        else if (code != PF_OK && chosen.public_key_pem)
            settle(&run, "signature", code, error, "");
        if (code == PF_OK)
            code = manifest_read(&model->manifest, &bundle.manifest, error);
        if (run.ok) {
            snprintf(good, sizeof good, "schema_version 1, %.100s, %.100s",
                     code == PF_OK ? model->manifest.name : "", code == PF_OK ? model->manifest.precision : "");
            code = settle(&run, "manifest", code, error, good);
        }
        if (code == PF_OK)
            code = verify_contents(&run, &bundle, model, &chosen, error);
    }
    bundle_close(&bundle);
    pf_free(model);
    if (code == PF_OK && !run.ok)
        code = PF_REFUSED;
    error->code = code;
    return code;
}
