/* Added tokens, such as [MASK], found inside a text before anything else is done to it.
 *
 * As AddedVocabulary of `tokenizers`: the leftmost match counts, the longest of those, the first of equals; matches do
 * not overlap; one that must stand alone and does not is passed over as a whole. */

struct added_token {
    struct code_points content;
    uint32_t id;
    bool single_word, strip_left, strip_right;
};

struct added_tokens {
    struct added_token *tokens;
    size_t count;
    uint64_t first_points; /* bit n: a content begins with a code point that is n modulo 64 */
};

/* What a text is cut into: plain text, or an added token with its id. False stops the cutting. */
typedef bool (*piece_function)(void *context, const uint32_t *text, size_t length, const struct added_token *token);

static void added_tokens_free(struct added_tokens *added)
{
    for (size_t index = 0; index < added->count; index++)
        code_points_free(&added->tokens[index].content);
    free(added->tokens);
}

static const struct added_token *added_token_at(const struct added_tokens *added, const uint32_t *text, size_t length)
{
    const struct added_token *found = NULL;
    if (!(added->first_points >> (text[0] & 63) & 1))
        return NULL;
    for (size_t index = 0; index < added->count; index++) {
        const struct added_token *token = &added->tokens[index];
        size_t size = token->content.length;
        if (size > 0 && size <= length && (!found || size > found->content.length) &&
            memcmp(token->content.data, text, size * sizeof *text) == 0)
            found = token;
    }
    return found;
}

/* Cut `text` at the added tokens and hand every piece on; false when `each` stopped it. */
static bool split_added(const struct added_tokens *added, const uint32_t *text, size_t length, piece_function each,
                        void *context)
{
    size_t done = 0, position = 0;
    while (position < length) {
        const struct added_token *token = added_token_at(added, text + position, length - position);
        if (!token) {
            position++;
            continue;
        }
        size_t start = position, stop = position + token->content.length;
        position = stop;
        if (token->single_word && ((start > 0 && is_word(text[start - 1])) || (stop < length && is_word(text[stop]))))
            continue;
        if (token->strip_left) {
            while (start > 0 && is_space(text[start - 1]))
                start--;
            start = start < done ? done : start;
        }
        while (token->strip_right && stop < length && is_space(text[stop]))
            stop++;
        if (done < start && !each(context, text + done, start - done, NULL))
            return false;
        if (!each(context, text + start, stop - start, token))
            return false;
        done = stop;
    }
    return done >= length || each(context, text + done, length - done, NULL);
}
