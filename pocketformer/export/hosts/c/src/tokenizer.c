/* From a text to token ids, as `tokenizers` does it for BERT: BertNormalizer, BertPreTokenizer, WordPiece, special
 * tokens before and after, truncation at the end of the text. */

struct tokenizer {
    struct arena arena; /* holds the document of tokenizer.json, whose texts are used in place */
    struct vocabulary vocabulary;
    struct added_tokens verbatim, normalized; /* found before and after normalizing */
    bool normalizes, clean_text, space_ideographs, strip_accents, lowercase;
    const char *prefix; /* of pieces that continue a word */
    size_t prefix_length;
    uint64_t prefix_hash;
    uint32_t unknown;
    size_t longest_word; /* in characters; a longer one is unknown */
    const int64_t *before, *before_types, *after, *after_types;
    size_t before_count, after_count;
    int64_t text_type;
};

static void tokenizer_free(struct tokenizer *tokenizer)
{
    added_tokens_free(&tokenizer->verbatim);
    added_tokens_free(&tokenizer->normalized);
    arena_free(&tokenizer->arena);
}

static size_t special_count(const struct tokenizer *tokenizer)
{
    return tokenizer->before_count + tokenizer->after_count;
}

/* One text on its way. */
struct tokenizing {
    const struct tokenizer *tokenizer;
    int64_t *ids;
    size_t count, limit;
    bool exhausted; /* there is no memory */
    struct code_points first, second;
    char *word; /* of the current word: its bytes, where each character begins, the hash up to there */
    uint32_t *starts;
    uint64_t *hashes;
    size_t word_capacity;
};

/* False when no more ids are wanted. */
static bool add_id(struct tokenizing *run, uint32_t id)
{
    if (run->count < run->limit)
        run->ids[run->count++] = id;
    return run->count < run->limit;
}

/* BertNormalizer; the result lies in `run->first`. False when there is no memory. */
static bool normalize(const struct tokenizer *tokenizer, struct tokenizing *run, const uint32_t *text, size_t length)
{
    struct code_points swap;
    run->first.length = run->second.length = 0;
    for (size_t index = 0; index < length; index++) {
        uint32_t point = text[index];
        if (tokenizer->clean_text) {
            if (is_removed(point))
                continue;
            point = is_space(point) ? ' ' : point;
        }
        bool apart = tokenizer->space_ideographs && is_ideograph(point);
        if ((apart && !code_points_add(&run->first, ' ')) || !code_points_add(&run->first, point) ||
            (apart && !code_points_add(&run->first, ' ')))
            return false;
    }
    if (tokenizer->strip_accents) {
        for (size_t index = 0; index < run->first.length; index++)
            if (!add_decomposed(&run->second, run->first.data[index]))
                return false;
        if (!order_marks(&run->second))
            return false;
        run->first.length = 0;
        for (size_t index = 0; index < run->second.length; index++)
            if (!is_nonspacing(run->second.data[index]) && !code_points_add(&run->first, run->second.data[index]))
                return false;
    }
    if (tokenizer->lowercase) {
        run->second.length = 0;
        for (size_t index = 0; index < run->first.length; index++)
            if (!add_lowercase(&run->second, run->first.data[index]))
                return false;
        swap = run->first;
        run->first = run->second;
        run->second = swap;
    }
    return true;
}

static bool word_reserve(struct tokenizing *run, size_t characters)
{
    if (run->word_capacity >= characters)
        return true;
    if (characters > SIZE_MAX / 16)
        return false;
    free(run->word);
    free(run->starts);
    free(run->hashes);
    run->word = malloc(4 * characters);
    run->starts = malloc((characters + 1) * sizeof *run->starts);
    run->hashes = malloc((characters + 1) * sizeof *run->hashes);
    run->word_capacity = run->word && run->starts && run->hashes ? characters : 0;
    return run->word_capacity > 0;
}

/* WordPiece: the longest piece that begins the word, then the longest that continues it, and so on; a word that is not
   covered so is unknown. False when no more ids are wanted, or there is no memory. */
static bool add_word(struct tokenizing *run, const uint32_t *text, size_t length)
{
    const struct tokenizer *tokenizer = run->tokenizer;
    size_t bytes = 0, first = run->count, done = 0;
    if (length > tokenizer->longest_word)
        return add_id(run, tokenizer->unknown);
    if (length > UINT32_MAX / 4 || !word_reserve(run, length)) {
        run->exhausted = true;
        return false;
    }
    for (size_t index = 0; index < length; index++) {
        run->starts[index] = (uint32_t)bytes;
        bytes += utf8_put(text[index], run->word + bytes);
    }
    run->starts[length] = (uint32_t)bytes;
    while (done < length) {
        const char *prefix = done ? tokenizer->prefix : "";
        size_t prefix_length = done ? tokenizer->prefix_length : 0, end = done;
        uint64_t hash = done ? tokenizer->prefix_hash : FNV_START;
        const char *start = run->word + run->starts[done];
        uint32_t id = NO_ID;
        for (; end < length; end++) {
            size_t from = run->starts[end], to = run->starts[end + 1];
            if (prefix_length + (to - run->starts[done]) > tokenizer->vocabulary.longest)
                break;
            hash = hash_more(hash, run->word + from, to - from);
            run->hashes[end + 1] = hash;
        }
        for (; end > done && id == NO_ID; end--)
            id = vocabulary_find(&tokenizer->vocabulary, run->hashes[end], prefix, prefix_length, start,
                                 run->starts[end] - run->starts[done]);
        if (id == NO_ID) {
            run->count = first;
            return add_id(run, tokenizer->unknown);
        }
        done = end + 1;
        /* The word may prove unknown after the limit is reached: only then is it known what stands first. */
        if (run->count < run->limit)
            run->ids[run->count++] = id;
    }
    return run->count < run->limit;
}

/* BertPreTokenizer: words are what stands between spaces; a punctuation mark is a word of its own. */
static bool add_words(void *context, const uint32_t *text, size_t length, const struct added_token *token)
{
    struct tokenizing *run = context;
    size_t start = 0;
    if (token)
        return add_id(run, token->id);
    for (size_t index = 0; index <= length; index++) {
        bool space = index == length || is_space(text[index]), mark = !space && is_punctuation(text[index]);
        if (!space && !mark)
            continue;
        if (start < index && !add_word(run, text + start, index - start))
            return false;
        if (mark && !add_word(run, text + index, 1))
            return false;
        start = index + 1;
    }
    return true;
}

/* A piece of the text as it was given. */
static bool add_verbatim(void *context, const uint32_t *text, size_t length, const struct added_token *token)
{
    struct tokenizing *run = context;
    if (token)
        return add_id(run, token->id);
    if (run->tokenizer->normalizes) {
        if (!normalize(run->tokenizer, run, text, length)) {
            run->exhausted = true;
            return false;
        }
        text = run->first.data;
        length = run->first.length;
    }
    return split_added(&run->tokenizer->normalized, text, length, add_words, run);
}

/* Token ids of a text, special ones included: at most `limit`, which is more than there are special ones. */
static bool tokenize(const struct tokenizer *tokenizer, const char *text, size_t length, int64_t *ids, size_t limit,
                     size_t *count)
{
    struct tokenizing run = {.tokenizer = tokenizer, .ids = ids + tokenizer->before_count};
    struct code_points points = {NULL, 0, 0};
    run.limit = limit - special_count(tokenizer);
    run.exhausted = !utf8_decode(text, length, &points);
    if (!run.exhausted)
        split_added(&tokenizer->verbatim, points.data, points.length, add_verbatim, &run);
    for (size_t index = 0; index < tokenizer->before_count; index++)
        ids[index] = tokenizer->before[index];
    for (size_t index = 0; index < tokenizer->after_count; index++)
        run.ids[run.count + index] = tokenizer->after[index];
    *count = run.count + special_count(tokenizer);
    code_points_free(&points);
    code_points_free(&run.first);
    code_points_free(&run.second);
    free(run.word);
    free(run.starts);
    free(run.hashes);
    return !run.exhausted;
}

/* The types that belong to `count` ids. */
static void token_types(const struct tokenizer *tokenizer, int64_t *types, size_t count)
{
    size_t after = count < tokenizer->after_count ? count : tokenizer->after_count;
    for (size_t index = 0; index < count; index++)
        types[index] = index < tokenizer->before_count ? tokenizer->before_types[index] : tokenizer->text_type;
    for (size_t index = 0; index < after; index++)
        types[count - after + index] = tokenizer->after_types[index];
}
