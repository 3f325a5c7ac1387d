/* One onnxruntime session over the bytes of a graph. */

struct session {
    void *library;
    const struct ort_table *table;
    OrtEnv *environment;
    OrtSession *session;
    OrtMemoryInfo *memory;
    OrtAllocator *allocator;
    const char *input_names[TEXT_INPUTS]; /* in the graph's own order */
    int inputs[TEXT_INPUTS];              /* which of text_inputs each of them is */
    size_t input_count;
    char *output_name; /* of the first output, the allocator's */
};

static void session_close(struct session *session)
{
    const struct ort_table *table = session->table;
    if (table) {
        if (session->output_name)
            ORT(table, ReleaseStatus)(ORT(table, AllocatorFree)(session->allocator, session->output_name));
        ORT(table, ReleaseMemoryInfo)(session->memory);
        ORT(table, ReleaseSession)(session->session);
        ORT(table, ReleaseEnv)(session->environment);
    }
    /* The library stays open: its threads and exit handlers may outlive the last session. */
    memset(session, 0, sizeof *session);
}

/* PF_OK without a status; else the status, which is released, as an error with `what` before it. */
static pf_code ort_check(const struct ort_table *table, OrtStatus *status, pf_code code, const char *what, pf_error *error)
{
    if (!status)
        return PF_OK;
    fail(error, code, code == PF_REFUSED ? "Check the bundle with its verify command; a newer onnxruntime may be needed." : "",
         "%s: %s", what, ORT(table, GetErrorMessage)(status));
    ORT(table, ReleaseStatus)(status);
    return code;
}

/* How many cores this process may use; onnxruntime by itself would count all of the machine. */
static int usable_cores(void)
{
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0)
        return CPU_COUNT(&set);
#endif
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores > 0 && cores < INT_MAX ? (int)cores : 1;
}

static pf_code ort_open(struct session *session, const char *path, pf_error *error)
{
    static const char *const names[] = {"libonnxruntime.so.1", NULL};
    static const char hint[] = "Install onnxruntime 1.16 or later, or name libonnxruntime by path in "
                               "POCKETFORMER_ONNXRUNTIME.";
    session->library = library_open(path, "POCKETFORMER_ONNXRUNTIME", names, "onnxruntime", hint, error);
    if (!session->library)
        return PF_MISSING;
    const struct ort_base *(*base)(void) =
        (const struct ort_base *(*)(void))library_function(session->library, "OrtGetApiBase");
    session->table = base ? base()->get_api(ORT_INTERFACE) : NULL;
    if (!session->table)
        return fail(error, PF_MISSING, hint, "the library is no onnxruntime of 1.16 or later");
    return PF_OK;
}

/* The settings that the bundle was measured with; `threads` above 0 replaces theirs. */
static OrtStatus *ort_set(const struct ort_table *table, const struct manifest *manifest, int threads,
                          OrtSessionOptions *options)
{
    static const unsigned levels[] = {[OPTIMIZE_ALL] = 99, [OPTIMIZE_EXTENDED] = 2, [OPTIMIZE_BASIC] = 1,
                                      [OPTIMIZE_NONE] = 0};
    /* Threads wait actively within a call and not after it, where they would take the app's cores. The format is said,
       for onnxruntime would guess it. */
    const char *const entries[][2] = {{"session.intra_op.allow_spinning", manifest->spinning ? "1" : "0"},
                                      {"session.force_spinning_stop", "1"},
                                      {"session.load_model_format", "ONNX"}};
    OrtStatus *status;
    if (threads <= 0)
        threads = manifest->threads > 0 ? manifest->threads : usable_cores();
    if ((status = ORT(table, SetIntraOpNumThreads)(options, threads)) ||
        (status = ORT(table, SetInterOpNumThreads)(options, 1)) ||
        (status = ORT(table, SetSessionExecutionMode)(options, 0)) ||
        (status = ORT(table, SetSessionLogSeverityLevel)(options, ORT_FATAL)) ||
        (status = ORT(table, SetSessionGraphOptimizationLevel)(options, levels[manifest->optimization])))
        return status;
    status = manifest->memory_arena ? ORT(table, EnableCpuMemArena)(options) : ORT(table, DisableCpuMemArena)(options);
    for (size_t index = 0; !status && index < sizeof entries / sizeof *entries; index++)
        status = ORT(table, AddSessionConfigEntry)(options, entries[index][0], entries[index][1]);
    return status;
}

/* Find which text input each input of the graph is; they must be those that the manifest says. */
static pf_code match_inputs(struct session *session, const struct manifest *manifest, pf_error *error)
{
    const struct ort_table *table = session->table;
    static const char hint[] = "Graph and manifest are of different bundles: copy the bundle again.";
    bool found[TEXT_INPUTS] = {false, false, false};
    size_t count = 0;
    pf_code code = ort_check(table, ORT(table, SessionGetInputCount)(session->session, &count), PF_REFUSED, "the graph",
                             error);
    if (code == PF_OK && (count == 0 || count > TEXT_INPUTS))
        return fail(error, PF_REFUSED, hint, "the graph has %zu inputs, a text gives %d", count, TEXT_INPUTS);
    for (size_t index = 0; code == PF_OK && index < count; index++) {
        char *name = NULL;
        int input = 0;
        code = ort_check(table, ORT(table, SessionGetInputName)(session->session, index, session->allocator, &name),
                         PF_REFUSED, "the graph", error);
        if (code != PF_OK)
            break;
        while (text_inputs[input] && strcmp(text_inputs[input], name) != 0)
            input++;
        if (input == TEXT_INPUTS || !manifest->inputs[input] || found[input])
            code = fail(error, PF_REFUSED, hint, "the graph has an input %.100s, its manifest has none of that name", name);
        ORT(table, ReleaseStatus)(ORT(table, AllocatorFree)(session->allocator, name));
        if (code == PF_OK) {
            found[input] = true;
            session->inputs[index] = input;
            session->input_names[index] = text_inputs[input];
        }
    }
    session->input_count = count;
    for (int input = 0; code == PF_OK && input < TEXT_INPUTS; input++)
        if (found[input] != manifest->inputs[input])
            code = fail(error, PF_REFUSED, hint, "the graph has no input %s, its manifest says so", text_inputs[input]);
    if (code == PF_OK && !found[INPUT_IDS])
        code = fail(error, PF_REFUSED, "Export the model with the inputs of a text classifier.",
                    "the graph has no input input_ids");
    return code;
}

/* Open a session over `graph`, which may be freed afterwards; `session` is to be closed whatever comes of it. */
static pf_code session_open(struct session *session, const struct bytes *graph, const struct manifest *manifest,
                            const char *library, int threads, pf_error *error)
{
    memset(session, 0, sizeof *session);
    const char *wrong = graph_refused(graph);
    if (wrong)
        return fail(error, PF_REFUSED, "Do not use this bundle, or write it again.", "%s %s", manifest->graph, wrong);
    if (strcmp(manifest->engine, "onnxruntime") != 0 || !manifest->cpu_only || ends_with(manifest->graph, ".engine"))
        return fail(error, PF_MISSING, "Make a bundle for the CPU and onnxruntime, or use this one from Python.",
                    "the bundle is for %s%s; the C host has onnxruntime on the CPU", manifest->engine,
                    manifest->cpu_only ? "" : " on another device");
    pf_code code = ort_open(session, library, error);
    if (code != PF_OK)
        return code;
    const struct ort_table *table = session->table;
    OrtSessionOptions *options = NULL;
    OrtStatus *status;
    if ((status = ORT(table, CreateEnv)(ORT_FATAL, "pocketformer", &session->environment)) ||
        (status = ORT(table, CreateCpuMemoryInfo)(1, 0, &session->memory)) || /* arena, default memory */
        (status = ORT(table, GetAllocatorWithDefaultOptions)(&session->allocator)) ||
        (status = ORT(table, CreateSessionOptions)(&options)) ||
        (status = ort_set(table, manifest, threads, options)))
        code = ort_check(table, status, PF_INTERNAL, "onnxruntime", error);
    if (code == PF_OK)
        code = ort_check(table,
                         ORT(table, CreateSessionFromArray)(session->environment, graph->data, graph->length, options,
                                                            &session->session),
                         PF_REFUSED, "onnxruntime cannot load the graph", error);
    ORT(table, ReleaseSessionOptions)(options);
    if (code == PF_OK)
        code = match_inputs(session, manifest, error);
    if (code == PF_OK)
        code = ort_check(table,
                         ORT(table, SessionGetOutputName)(session->session, 0, session->allocator, &session->output_name),
                         PF_REFUSED, "the graph has no output", error);
    return code;
}

/* Copy the logits out of what the graph gave: float32 [1, labels]. */
static pf_code take_logits(const struct session *session, OrtValue *value, float *logits, size_t labels, pf_error *error)
{
    const struct ort_table *table = session->table;
    OrtTensorTypeAndShapeInfo *shape = NULL;
    OrtStatus *status;
    unsigned type = 0;
    size_t axes = 0;
    int64_t sizes[2] = {0, 0};
    void *data = NULL;
    if (!(status = ORT(table, GetTensorTypeAndShape)(value, &shape)) &&
        !(status = ORT(table, GetTensorElementType)(shape, &type)) &&
        !(status = ORT(table, GetDimensionsCount)(shape, &axes)) && axes == 2 &&
        !(status = ORT(table, GetDimensions)(shape, sizes, 2)))
        status = ORT(table, GetTensorMutableData)(value, &data);
    ORT(table, ReleaseTensorTypeAndShapeInfo)(shape);
    pf_code code = ort_check(table, status, PF_REFUSED, "the graph's output", error);
    if (code != PF_OK)
        return code;
    if (type != ORT_FLOAT || axes != 2 || sizes[0] != 1 || sizes[1] < 0 || (uint64_t)sizes[1] != labels || !data)
        return fail(error, PF_REFUSED, "Graph and manifest are of different bundles: copy the bundle again.",
                    "the graph gives no float32 [1, %zu], one logit for each label of its manifest", labels);
    memcpy(logits, data, labels * sizeof *logits);
    return PF_OK;
}

/* Run the graph on one text; `feeds` holds `count` numbers for each of text_inputs. Several threads may do so at once. */
static pf_code session_run(const struct session *session, int64_t *const feeds[TEXT_INPUTS], size_t count, float *logits,
                           size_t labels, pf_error *error)
{
    const struct ort_table *table = session->table;
    const int64_t shape[2] = {1, (int64_t)count};
    const char *output_name = session->output_name;
    OrtValue *inputs[TEXT_INPUTS] = {NULL, NULL, NULL}, *output = NULL;
    OrtStatus *status = NULL;
    for (size_t index = 0; !status && index < session->input_count; index++)
        status = ORT(table, CreateTensorWithDataAsOrtValue)(session->memory, feeds[session->inputs[index]],
                                                            count * sizeof(int64_t), shape, 2, ORT_INT64, &inputs[index]);
    if (!status)
        status = ORT(table, Run)(session->session, NULL, session->input_names, (const OrtValue *const *)inputs,
                                 session->input_count, &output_name, 1, &output);
    pf_code code = ort_check(table, status, PF_REFUSED, "the graph failed", error);
    if (code == PF_OK)
        code = take_logits(session, output, logits, labels, error);
    for (size_t index = 0; index < session->input_count; index++)
        ORT(table, ReleaseValue)(inputs[index]);
    ORT(table, ReleaseValue)(output);
    return code;
}
