/* tokenizer.json, as far as this host can do what it says: anything else is refused by its name. */

#define ADDED_TOKENS 10000
#define HINT_HOST "Use the bundle from Python or JavaScript, or train with a BERT tokenizer (docs/c.md)."

/* For a part of the file that asks for what this host does not have: its place and the value of its `type`. */
static pf_code not_here(pf_error *error, const char *place, const struct json *value, const char *has)
{
    const struct json *type = json_get(value, "type");
    return fail(error, PF_MISSING, HINT_HOST, "tokenizer.json: %s is %.60s, the C host has %s", place,
                type && type->type == JSON_TEXT ? type->text : "of no known type", has);
}

static pf_code tokenizer_damaged(pf_error *error, const char *what)
{
    return fail(error, PF_REFUSED, HINT_DAMAGED, "tokenizer.json: %s", what);
}

/* The truth of a key; `otherwise` where it is absent or null. */
static bool json_truth(const struct json *object, const char *key, bool otherwise)
{
    const struct json *value = json_get(object, key);
    return value && (value->type == JSON_TRUE || value->type == JSON_FALSE) ? value->type == JSON_TRUE : otherwise;
}

static bool is_absent(const struct json *value)
{
    return !value || value->type == JSON_NULL;
}

static bool is_id(const struct json *value)
{
    return value && value->type == JSON_INTEGER && value->integer >= 0 && value->integer < INT32_MAX;
}

static pf_code read_normalizer(struct tokenizer *tokenizer, const struct json *value, pf_error *error)
{
    if (is_absent(value))
        return PF_OK;
    if (!json_is_text(json_get(value, "type"), "BertNormalizer"))
        return not_here(error, "the normalizer", value, "BertNormalizer");
    tokenizer->normalizes = true;
    tokenizer->clean_text = json_truth(value, "clean_text", true);
    tokenizer->space_ideographs = json_truth(value, "handle_chinese_chars", true);
    tokenizer->lowercase = json_truth(value, "lowercase", true);
    tokenizer->strip_accents = json_truth(value, "strip_accents", tokenizer->lowercase);
    return PF_OK;
}

static pf_code read_wordpiece(struct tokenizer *tokenizer, const struct json *model, pf_error *error)
{
    const struct json *vocab = json_get(model, "vocab"), *prefix = json_get(model, "continuing_subword_prefix"),
                      *unknown = json_get(model, "unk_token"), *most = json_get(model, "max_input_chars_per_word");
    if (!json_is_text(json_get(model, "type"), "WordPiece"))
        return not_here(error, "the model", model, "WordPiece");
    if (!vocab || vocab->type != JSON_OBJECT || vocab->length == 0)
        return tokenizer_damaged(error, "model.vocab must be an object that is not empty");
    if (!prefix || prefix->type != JSON_TEXT || !unknown || unknown->type != JSON_TEXT || !is_id(most))
        return tokenizer_damaged(error, "model lacks its prefix, its unknown token or its longest word");
    if (!vocabulary_begin(&tokenizer->vocabulary, &tokenizer->arena, vocab->length))
        return no_memory(error);
    for (const struct json *item = vocab->items; item; item = item->next) {
        if (!is_id(item))
            return tokenizer_damaged(error, "an id of model.vocab is no whole number of at least 0");
        vocabulary_add(&tokenizer->vocabulary, item->key, (uint32_t)item->key_length, (uint32_t)item->integer);
    }
    tokenizer->prefix = prefix->text;
    tokenizer->prefix_length = prefix->length;
    tokenizer->prefix_hash = hash_more(FNV_START, prefix->text, prefix->length);
    tokenizer->longest_word = (size_t)most->integer;
    tokenizer->unknown = vocabulary_id(&tokenizer->vocabulary, unknown->text, unknown->length);
    return tokenizer->unknown == NO_ID ? tokenizer_damaged(error, "model.unk_token is not in model.vocab") : PF_OK;
}

/* Added tokens get the id of their piece; those that are no pieces get ids of their own, counted on in their order. */
struct new_ids {
    struct vocabulary known;
    uint32_t next;
};

static pf_code read_added_token(struct tokenizer *tokenizer, const struct json *item, struct new_ids *ids,
                                pf_error *error)
{
    const struct json *content = json_get(item, "content"), *id = json_get(item, "id");
    struct added_token token = {.single_word = json_truth(item, "single_word", false),
                                .strip_left = json_truth(item, "lstrip", false),
                                .strip_right = json_truth(item, "rstrip", false)};
    bool normalized = json_truth(item, "normalized", true);
    struct added_tokens *added = normalized ? &tokenizer->normalized : &tokenizer->verbatim;
    struct tokenizing run = {.tokenizer = tokenizer};
    if (!content || content->type != JSON_TEXT || content->length == 0 || !is_id(id))
        return tokenizer_damaged(error, "an added token must have a content and an id");
    if (vocabulary_id(&ids->known, content->text, content->length) != NO_ID)
        return tokenizer_damaged(error, "an added token stands there twice");
    token.id = vocabulary_id(&tokenizer->vocabulary, content->text, content->length);
    if (token.id == NO_ID)
        token.id = ids->next;
    if (token.id != (uint32_t)id->integer)
        return fail(error, PF_REFUSED, HINT_DAMAGED, "tokenizer.json: the added token %.60s has the id %lld instead of %u",
                    content->text, (long long)id->integer, token.id);
    ids->next = token.id >= ids->next ? token.id + 1 : ids->next;
    vocabulary_add(&ids->known, content->text, (uint32_t)content->length, token.id);
    if (!utf8_decode(content->text, content->length, &token.content))
        return no_memory(error);
    if (normalized && tokenizer->normalizes) { /* it is looked for in a text that was normalized as well */
        bool done = normalize(tokenizer, &run, token.content.data, token.content.length);
        code_points_free(&token.content);
        code_points_free(&run.second);
        token.content = run.first;
        if (!done) {
            code_points_free(&token.content);
            return no_memory(error);
        }
    }
    bool unclear = token.content.length == 0;
    for (size_t index = 0; !unclear && index < added->count; index++)
        unclear = added->tokens[index].content.length == token.content.length &&
                  memcmp(added->tokens[index].content.data, token.content.data,
                         token.content.length * sizeof(uint32_t)) == 0;
    if (unclear) { /* tokenizers itself takes one or the other */
        code_points_free(&token.content);
        return tokenizer_damaged(error, "an added token is, once normalized, nothing or the same as another");
    }
    added->first_points |= UINT64_C(1) << (token.content.data[0] & 63);
    added->tokens[added->count++] = token;
    return PF_OK;
}

static pf_code read_added_tokens(struct tokenizer *tokenizer, const struct json *list, pf_error *error)
{
    struct new_ids ids = {.next = (uint32_t)tokenizer->vocabulary.count};
    if (is_absent(list))
        return PF_OK;
    if (list->type != JSON_ARRAY || list->length > ADDED_TOKENS)
        return tokenizer_damaged(error, "added_tokens must be a list of at most 10000");
    tokenizer->verbatim.tokens = calloc(list->length + 1, sizeof(struct added_token));
    tokenizer->normalized.tokens = calloc(list->length + 1, sizeof(struct added_token));
    if (!tokenizer->verbatim.tokens || !tokenizer->normalized.tokens ||
        !vocabulary_begin(&ids.known, &tokenizer->arena, list->length))
        return no_memory(error);
    pf_code code = PF_OK;
    for (const struct json *item = list->items; item && code == PF_OK; item = item->next)
        code = read_added_token(tokenizer, item, &ids, error);
    return code;
}

/* One side of the template; `types` beside `ids`, in the arena. */
struct side {
    int64_t *ids, *types;
    size_t count;
};

static bool side_add(struct side *side, struct arena *arena, int64_t id, int64_t type)
{
    int64_t *ids = arena_array(arena, side->count + 1, sizeof *ids);
    int64_t *types = arena_array(arena, side->count + 1, sizeof *types);
    if (!ids || !types)
        return false;
    if (side->count > 0) {
        memcpy(ids, side->ids, side->count * sizeof *ids);
        memcpy(types, side->types, side->count * sizeof *types);
    }
    ids[side->count] = id;
    types[side->count] = type;
    *side = (struct side){ids, types, side->count + 1};
    return true;
}

/* TemplateProcessing: `single` is a list of special tokens and of the text itself, once. */
static pf_code read_template(struct tokenizer *tokenizer, const struct json *value, struct side sides[2], pf_error *error)
{
    const struct json *single = json_get(value, "single"), *tokens = json_get(value, "special_tokens");
    int texts = 0;
    if (!single || single->type != JSON_ARRAY || single->length > 64)
        return tokenizer_damaged(error, "post_processor.single must be a list of at most 64");
    for (const struct json *item = single->items; item; item = item->next) {
        const struct json *special = json_get(item, "SpecialToken"), *text = json_get(item, "Sequence");
        const struct json *type = json_get(special ? special : text, "type_id");
        if (!is_id(type))
            return tokenizer_damaged(error, "post_processor.single holds something else than tokens and texts");
        if (text) {
            if (!json_is_text(json_get(text, "id"), "A") || ++texts > 1)
                return tokenizer_damaged(error, "post_processor.single must hold the text A once");
            tokenizer->text_type = type->integer;
            continue;
        }
        const struct json *name = json_get(special, "id"), *found = NULL;
        for (const struct json *token = tokens && tokens->type == JSON_OBJECT ? tokens->items : NULL;
             token && name && name->type == JSON_TEXT; token = token->next)
            if (token->key_length == name->length && memcmp(token->key, name->text, name->length) == 0)
                found = json_get(token, "ids");
        if (!found || found->type != JSON_ARRAY || found->length > 64)
            return tokenizer_damaged(error, "post_processor names a special token that it does not have");
        for (const struct json *id = found->items; id; id = id->next) {
            if (!is_id(id))
                return tokenizer_damaged(error, "post_processor has an id that is none");
            if (!side_add(&sides[texts], &tokenizer->arena, id->integer, type->integer))
                return no_memory(error);
        }
    }
    return texts == 1 ? PF_OK : tokenizer_damaged(error, "post_processor.single must hold the text A once");
}

/* BertProcessing: `cls` and `sep` are pairs of a text and an id. */
static pf_code read_bert_processing(struct tokenizer *tokenizer, const struct json *value, struct side sides[2],
                                    pf_error *error)
{
    static const char *const names[2] = {"cls", "sep"};
    for (int index = 0; index < 2; index++) {
        const struct json *pair = json_get(value, names[index]);
        const struct json *id = pair && pair->type == JSON_ARRAY && pair->length == 2 ? pair->items->next : NULL;
        if (!is_id(id))
            return tokenizer_damaged(error, "post_processor lacks cls or sep");
        if (!side_add(&sides[index], &tokenizer->arena, id->integer, 0))
            return no_memory(error);
    }
    return PF_OK;
}

static pf_code read_post_processor(struct tokenizer *tokenizer, const struct json *value, pf_error *error)
{
    struct side sides[2] = {{NULL, NULL, 0}, {NULL, NULL, 0}};
    const struct json *type = json_get(value, "type");
    pf_code code = PF_OK;
    if (json_is_text(type, "TemplateProcessing"))
        code = read_template(tokenizer, value, sides, error);
    else if (json_is_text(type, "BertProcessing"))
        code = read_bert_processing(tokenizer, value, sides, error);
    else if (!is_absent(value))
        code = not_here(error, "the post_processor", value, "TemplateProcessing and BertProcessing");
    tokenizer->before = sides[0].ids;
    tokenizer->before_types = sides[0].types;
    tokenizer->before_count = sides[0].count;
    tokenizer->after = sides[1].ids;
    tokenizer->after_types = sides[1].types;
    tokenizer->after_count = sides[1].count;
    return code;
}

/* Read tokenizer.json; `tokenizer` is to be freed whatever comes of it. Settings for padding and truncation inside the
   file are not used: the manifest says how long an input may be. */
static pf_code tokenizer_read(struct tokenizer *tokenizer, const struct bytes *bytes, size_t max_length, pf_error *error)
{
    const char *problem;
    size_t where;
    memset(tokenizer, 0, sizeof *tokenizer);
    const struct json *top = json_read(&tokenizer->arena, bytes->data, bytes->length, false, &problem, &where);
    if (!top)
        return fail(error, PF_REFUSED, HINT_DAMAGED, "tokenizer.json is not JSON: %s, at byte %zu", problem, where);
    pf_code code = read_wordpiece(tokenizer, json_get(top, "model"), error);
    const struct json *splitter = json_get(top, "pre_tokenizer");
    if (code == PF_OK && !json_is_text(json_get(splitter, "type"), "BertPreTokenizer"))
        code = not_here(error, "the pre_tokenizer", splitter, "BertPreTokenizer");
    if (code == PF_OK)
        code = read_normalizer(tokenizer, json_get(top, "normalizer"), error);
    if (code == PF_OK)
        code = read_added_tokens(tokenizer, json_get(top, "added_tokens"), error);
    if (code == PF_OK)
        code = read_post_processor(tokenizer, json_get(top, "post_processor"), error);
    if (code == PF_OK && max_length <= special_count(tokenizer))
        code = fail(error, PF_REFUSED, HINT_DAMAGED, "max_length is %zu, but tokenizer.json adds %zu special tokens",
                    max_length, special_count(tokenizer));
    return code;
}
