/* Typed access to the JSON of a manifest: what is missing or of another type is refused by its place in the file. */

#define MANIFEST_FILE "manifest.json"
#define SIGNATURE_FILE "manifest.json.sig"

struct fields {
    const struct json *object;
    char place[160]; /* where it lies in the document, with a point at the end unless it is the whole */
    pf_error *error;
};

/* Refuse the field: `wanted` says what it must be. Always false. */
static bool field_wrong(const struct fields *fields, const char *key, const char *wanted)
{
    fail(fields->error, PF_REFUSED, HINT_DAMAGED, MANIFEST_FILE ": %s%s must be %s", fields->place, key, wanted);
    return false;
}

static const struct json *field_of(const struct fields *fields, const char *key, enum json_type type, const char *wanted)
{
    const struct json *value = json_get(fields->object, key);
    if (!value)
        fail(fields->error, PF_REFUSED, HINT_DAMAGED, MANIFEST_FILE ": %s%s is missing", fields->place, key);
    else if (value->type != type)
        field_wrong(fields, key, wanted);
    else
        return value;
    return NULL;
}

/* Whether a text holds a NUL, which a C string cannot. */
static bool holds_nul(const struct json *text)
{
    return memchr(text->text, 0, text->length) != NULL;
}

/* Text that is not empty. */
static bool field_text(const struct fields *fields, const char *key, const char **text)
{
    const struct json *value = field_of(fields, key, JSON_TEXT, "text");
    if (!value)
        return false;
    *text = value->text;
    return (value->length > 0 && !holds_nul(value)) || field_wrong(fields, key, "text that is not empty");
}

/* The place of a text in `choices`, which a NULL ends. */
static bool field_choice(const struct fields *fields, const char *key, const char *const *choices, int *chosen)
{
    const char *text;
    char wanted[160] = "one of ";
    if (!field_text(fields, key, &text))
        return false;
    for (*chosen = 0; choices[*chosen]; ++*chosen) {
        if (strcmp(choices[*chosen], text) == 0)
            return true;
        strncat(wanted, *chosen ? ", " : "", sizeof wanted - strlen(wanted) - 1);
        strncat(wanted, choices[*chosen], sizeof wanted - strlen(wanted) - 1);
    }
    return field_wrong(fields, key, wanted);
}

static bool field_integer(const struct fields *fields, const char *key, int64_t least, int64_t most, int64_t *number)
{
    char wanted[96];
    snprintf(wanted, sizeof wanted, "a whole number of at least %lld and at most %lld", (long long)least,
             (long long)most);
    const struct json *value = field_of(fields, key, JSON_INTEGER, wanted);
    if (!value)
        return false;
    *number = value->integer;
    return (value->integer >= least && value->integer <= most) || field_wrong(fields, key, wanted);
}

/* A finite number of at least 0. */
static bool field_number(const struct fields *fields, const char *key, double *number)
{
    const struct json *value = json_get(fields->object, key);
    enum json_type type = value && value->type == JSON_INTEGER ? JSON_INTEGER : JSON_NUMBER;
    value = field_of(fields, key, type, "a number of at least 0");
    if (!value)
        return false;
    *number = value->number;
    return (value->number >= 0.0 && isfinite(value->number)) || field_wrong(fields, key, "a finite number of at least 0");
}

static bool field_boolean(const struct fields *fields, const char *key, bool *truth)
{
    const struct json *value = json_get(fields->object, key);
    enum json_type type = value && value->type == JSON_FALSE ? JSON_FALSE : JSON_TRUE;
    *truth = type == JSON_TRUE;
    return field_of(fields, key, type, "true or false") != NULL;
}

static bool field_object(const struct fields *fields, const char *key, struct fields *object)
{
    object->object = field_of(fields, key, JSON_OBJECT, "an object");
    object->error = fields->error;
    snprintf(object->place, sizeof object->place, "%.100s%.50s.", fields->place, key);
    return object->object != NULL;
}

/* A list of different texts, none empty. */
static bool field_names(const struct fields *fields, const char *key, struct arena *arena, const char ***names,
                        size_t *count)
{
    const struct json *list = field_of(fields, key, JSON_ARRAY, "a list");
    if (!list)
        return false;
    if (list->length == 0)
        return field_wrong(fields, key, "a list that is not empty");
    if (list->length > 65536)
        return field_wrong(fields, key, "a list of at most 65536");
    *names = arena_array(arena, list->length, sizeof **names);
    if (!*names) {
        no_memory(fields->error);
        return false;
    }
    *count = 0;
    for (const struct json *item = list->items; item; item = item->next) {
        bool good = item->type == JSON_TEXT && item->length > 0 && !holds_nul(item);
        for (size_t index = 0; good && index < *count; index++)
            good = strcmp((*names)[index], item->text) != 0;
        if (!good)
            return field_wrong(fields, key, "a list of texts that are neither empty nor a repetition");
        (*names)[(*count)++] = item->text;
    }
    return true;
}

/* Whether a name leads into the bundle, and means the same file on every system. */
static bool is_member_path(const char *name)
{
    const char *part = name;
    if (strpbrk(name, "\\:") || strcmp(name, MANIFEST_FILE) == 0 || strcmp(name, SIGNATURE_FILE) == 0)
        return false;
    for (;;) {
        size_t length = strcspn(part, "/");
        if (length == 0 || (length <= 2 && strspn(part, ".") >= length))
            return false;
        if (!part[length])
            return true;
        part += length + 1;
    }
}

/* A path inside the bundle. */
static bool field_path(const struct fields *fields, const char *key, const char **path)
{
    return field_text(fields, key, path) &&
           (is_member_path(*path) || field_wrong(fields, key, "a path inside the bundle with forward slashes"));
}
