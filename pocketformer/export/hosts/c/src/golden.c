/* golden.jsonl: texts, their token ids, the logits of these, the label, and its score. */

struct sample {
    const char *text, *label;
    size_t text_length, label_length, id_count, logit_count;
    int64_t *ids;
    float *logits;
    bool scored;
    double score;
};

struct golden {
    struct arena arena;
    struct sample *samples;
    size_t count;
};

static void golden_free(struct golden *golden)
{
    arena_free(&golden->arena);
}

/* NULL when all is well, else what is wrong. */
static const char *read_sample(struct arena *arena, const struct json *row, struct sample *sample)
{
    const struct json *text = json_get(row, "text"), *label = json_get(row, "label"), *ids = json_get(row, "input_ids"),
                      *logits = json_get(row, "logits"), *score = json_get(row, "score");
    size_t index = 0;
    if (row->type != JSON_OBJECT)
        return "not a JSON object";
    if (json_repeats(arena, row))
        return "a key stands there twice";
    if (!text || text->type != JSON_TEXT || !label || label->type != JSON_TEXT)
        return "text and label must be text";
    if (!ids || ids->type != JSON_ARRAY)
        return "input_ids must be a list of whole numbers";
    if (!logits || logits->type != JSON_ARRAY || logits->length == 0)
        return "logits must be a list of numbers";
    *sample = (struct sample){.text = text->text, .text_length = text->length, .label = label->text,
                              .label_length = label->length, .id_count = ids->length, .logit_count = logits->length};
    sample->ids = arena_array(arena, ids->length + 1, sizeof *sample->ids);
    sample->logits = arena_array(arena, logits->length, sizeof *sample->logits);
    if (!sample->ids || !sample->logits)
        return "there is not enough memory";
    for (const struct json *item = ids->items; item; item = item->next) {
        if (item->type != JSON_INTEGER || item->integer < 0 || item->integer > INT32_MAX)
            return "input_ids must be a list of whole numbers from 0 to 2147483647";
        sample->ids[index++] = item->integer;
    }
    index = 0;
    for (const struct json *item = logits->items; item; item = item->next) {
        if (item->type != JSON_INTEGER && item->type != JSON_NUMBER)
            return "logits must be a list of numbers";
        sample->logits[index++] = (float)item->number; /* they are float32 values with all their digits */
        if (!isfinite((float)item->number))
            return "logits must be finite";
    }
    if (score && score->type != JSON_NULL) {
        bool number = score->type == JSON_INTEGER || score->type == JSON_NUMBER;
        if (!number || !(score->number >= 0.0 && score->number <= 1.0))
            return "score must be a number from 0 to 1";
        sample->scored = true;
        sample->score = score->number;
    }
    return NULL;
}

/* Read golden.jsonl; `golden` is to be freed whatever comes of it. Blank lines are passed over. */
static pf_code golden_read(struct golden *golden, const struct bytes *bytes, pf_error *error)
{
    const char *data = (const char *)bytes->data, *end = data + bytes->length;
    size_t lines = 1, number = 0;
    memset(golden, 0, sizeof *golden);
    for (const char *place = data; place < end; place++)
        lines += *place == '\n';
    golden->samples = arena_array(&golden->arena, lines, sizeof *golden->samples);
    if (!golden->samples)
        return no_memory(error);
    while (data < end) {
        const char *newline = memchr(data, '\n', (size_t)(end - data)), *stop = newline ? newline : end;
        const char *content = data, *problem = NULL;
        size_t where;
        while (content < stop && memchr(" \t\r", *content, 3))
            content++;
        number++;
        if (content < stop) {
            struct json *row = json_read(&golden->arena, data, (size_t)(stop - data), true, &problem, &where);
            if (row)
                problem = read_sample(&golden->arena, row, &golden->samples[golden->count++]);
            if (problem)
                return fail(error, PF_REFUSED, HINT_DAMAGED, "golden samples, line %zu: %s", number, problem);
        }
        data = stop + (newline != NULL);
    }
    if (golden->count == 0)
        return fail(error, PF_REFUSED, "Write the bundle with golden texts.",
                    "there are no golden samples, so nothing can be replayed");
    return PF_OK;
}
