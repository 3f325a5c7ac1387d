/* A strict JSON reader (RFC 8259) with limits: nesting of at most 64, numbers of at most 100 digits, only UTF-8.
 *
 * A surrogate pair of escapes becomes its character; a lone one U+FFFD where that is allowed. Of repeated keys the last
 * one counts, as in Python and JavaScript, where nobody asks json_repeats. */

#define JSON_DEPTH 64
#define JSON_DIGITS 100

enum json_type { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_INTEGER, JSON_NUMBER, JSON_TEXT, JSON_ARRAY, JSON_OBJECT };

struct json {
    enum json_type type;
    size_t length;      /* bytes of a text, items of an array or object */
    const char *text;   /* of a text: UTF-8, ends with NUL and may hold others */
    double number;      /* of both kinds of numbers */
    int64_t integer;    /* of a whole number; the nearest where it is too large */
    struct json *items; /* the first one */
    struct json *next;  /* the next one beside this */
    const char *key;    /* inside an object, as `text` */
    size_t key_length;
};

struct json_reader {
    const unsigned char *data;
    size_t length, position;
    struct arena *arena;
    const char *problem; /* NULL while all is well */
    int depth;
    bool halves; /* whether half a surrogate pair is allowed */
};

static bool json_problem(struct json_reader *reader, const char *problem)
{
    if (!reader->problem)
        reader->problem = problem;
    return false;
}

static int json_peek(const struct json_reader *reader)
{
    return reader->position < reader->length ? reader->data[reader->position] : -1;
}

static void json_skip_space(struct json_reader *reader)
{
    int next = json_peek(reader);
    while (next == ' ' || next == '\t' || next == '\n' || next == '\r') {
        reader->position++;
        next = json_peek(reader);
    }
}

static bool json_literal(struct json_reader *reader, const char *word)
{
    size_t length = strlen(word);
    if (reader->length - reader->position < length || memcmp(reader->data + reader->position, word, length) != 0)
        return json_problem(reader, "a value is expected");
    reader->position += length;
    return true;
}

/* Four hexadecimal digits; -1 where there are none. */
static int json_hex(struct json_reader *reader)
{
    int value = 0;
    if (reader->length - reader->position < 4)
        return -1;
    for (int index = 0; index < 4; index++) {
        int digit = reader->data[reader->position + (size_t)index];
        if (digit >= '0' && digit <= '9')
            digit -= '0';
        else if ((digit | 0x20) >= 'a' && (digit | 0x20) <= 'f')
            digit = (digit | 0x20) - 'a' + 10;
        else
            return -1;
        value = value * 16 + digit;
    }
    reader->position += 4;
    return value;
}

/* The code point of a \u escape whose first six characters up to the `u` are read. */
static bool json_unicode_escape(struct json_reader *reader, uint32_t *point)
{
    int first = json_hex(reader);
    if (first < 0)
        return json_problem(reader, "\\u is not followed by four hexadecimal digits");
    *point = (uint32_t)first;
    if (first < 0xD800 || first > 0xDFFF)
        return true;
    *point = REPLACEMENT;
    size_t after = reader->position;
    if (first < 0xDC00 && reader->length - after >= 6 && reader->data[after] == '\\' && reader->data[after + 1] == 'u') {
        reader->position += 2;
        int second = json_hex(reader);
        if (second >= 0xDC00 && second <= 0xDFFF)
            *point = 0x10000u + ((uint32_t)(first - 0xD800) << 10) + (uint32_t)(second - 0xDC00);
        else
            reader->position = after; /* a lone half; what follows is read on its own */
    }
    return *point != REPLACEMENT || reader->halves || json_problem(reader, "a text holds half a surrogate pair");
}

/* A text whose opening quotation mark is the next character. */
static bool json_text(struct json_reader *reader, const char **text, size_t *length)
{
    size_t end = ++reader->position;
    while (end < reader->length && reader->data[end] != '"')
        end += reader->data[end] == '\\' ? 2 : 1;
    if (end >= reader->length)
        return json_problem(reader, "a text has no end");
    /* An escape is never shorter than what it stands for. */
    char *out = arena_take(reader->arena, end - reader->position + 1);
    size_t used = 0;
    if (!out)
        return json_problem(reader, "there is not enough memory");
    while (json_peek(reader) != '"') {
        uint32_t point;
        if (json_peek(reader) < 0)
            return json_problem(reader, "a text has no end");
        if (!utf8_next(reader->data, reader->length, &reader->position, &point))
            return json_problem(reader, "it is not UTF-8");
        if (point < 0x20)
            return json_problem(reader, "a text holds a control character");
        if (point == '\\') {
            static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
            int name = json_peek(reader);
            const char *found = name > 0 ? strchr(names, name) : NULL;
            reader->position++;
            if (found)
                point = (unsigned char)values[found - names];
            else if (name != 'u')
                return json_problem(reader, "a text holds an unknown escape");
            else if (!json_unicode_escape(reader, &point))
                return false;
        }
        used += utf8_put(point, out + used);
    }
    reader->position++;
    *text = out;
    *length = used;
    return true;
}

/* value x 10^exponent without the locale of strtod; to within a unit in the last place. */
static double json_scaled(uint64_t value, int exponent)
{
    long double scaled = (long double)value, power = 10.0L;
    bool shrink = exponent < 0;
    if (value == 0)
        return 0.0;
    for (int left = shrink ? -exponent : exponent; left > 0; left >>= 1) {
        if (left & 1)
            scaled = shrink ? scaled / power : scaled * power;
        power *= power;
    }
    return (double)scaled;
}

static bool json_number(struct json_reader *reader, struct json *value)
{
    bool negative = json_peek(reader) == '-', whole = true, saturated = false;
    uint64_t digits = 0;
    int exponent = 0, written = 0;
    reader->position += negative;
    if (json_peek(reader) < '0' || json_peek(reader) > '9')
        return json_problem(reader, "a value is expected");
    if (json_peek(reader) == '0' && reader->position + 1 < reader->length && reader->data[reader->position + 1] >= '0' &&
        reader->data[reader->position + 1] <= '9')
        return json_problem(reader, "a number begins with 0");
    for (;; reader->position++) {
        int next = json_peek(reader);
        if (next == '.' && whole) {
            whole = false;
            next = reader->position + 1 < reader->length ? reader->data[reader->position + 1] : -1;
            if (next < '0' || next > '9')
                return json_problem(reader, "a number ends with its point");
            continue;
        }
        if (next < '0' || next > '9')
            break;
        if (++written > JSON_DIGITS)
            return json_problem(reader, "a number has more than 100 digits");
        /* 19 digits fit; those after them change a double by less than its last place. */
        if (digits < UINT64_C(922337203685477580)) {
            digits = digits * 10 + (uint64_t)(next - '0');
            exponent -= !whole && exponent > -100000;
        } else {
            saturated |= whole;
            exponent += whole && exponent < 100000;
        }
    }
    if (json_peek(reader) == 'e' || json_peek(reader) == 'E') {
        whole = false;
        reader->position++;
        bool down = json_peek(reader) == '-';
        int power = 0;
        written = 0;
        if (down || json_peek(reader) == '+')
            reader->position++;
        for (; json_peek(reader) >= '0' && json_peek(reader) <= '9'; reader->position++, written = 1)
            power = power < 100000 ? power * 10 + (json_peek(reader) - '0') : power;
        if (!written)
            return json_problem(reader, "a number ends with its exponent");
        exponent += down ? -power : power;
    }
    /* Beyond this a double is 0 or infinite for certain. */
    exponent = exponent < -400 ? -400 : exponent > 400 ? 400 : exponent;
    value->type = whole ? JSON_INTEGER : JSON_NUMBER;
    value->number = json_scaled(digits, exponent) * (negative ? -1.0 : 1.0);
    value->integer = saturated ? INT64_MAX : (int64_t)digits;
    value->integer *= negative ? -1 : 1;
    return true;
}

static bool json_value(struct json_reader *reader, struct json *value);

/* The items up to the closing bracket; the opening one is the next character. */
static bool json_items(struct json_reader *reader, struct json *parent)
{
    bool object = parent->type == JSON_OBJECT;
    int closing = object ? '}' : ']';
    struct json **place = &parent->items;
    if (++reader->depth > JSON_DEPTH)
        return json_problem(reader, "it is nested deeper than 64");
    reader->position++;
    json_skip_space(reader);
    while (json_peek(reader) != closing) {
        struct json *item = arena_take(reader->arena, sizeof *item);
        if (!item)
            return json_problem(reader, "there is not enough memory");
        if (object) {
            if (json_peek(reader) != '"')
                return json_problem(reader, "a key in quotation marks is expected");
            if (!json_text(reader, &item->key, &item->key_length))
                return false;
            json_skip_space(reader);
            if (json_peek(reader) != ':')
                return json_problem(reader, "a key is not followed by a colon");
            reader->position++;
        }
        json_skip_space(reader);
        if (!json_value(reader, item))
            return false;
        *place = item;
        place = &item->next;
        parent->length++;
        json_skip_space(reader);
        if (json_peek(reader) == ',') {
            reader->position++;
            json_skip_space(reader);
            if (json_peek(reader) == closing)
                return json_problem(reader, "a comma is not followed by an item");
        } else if (json_peek(reader) != closing) {
            return json_problem(reader, "a comma or a closing bracket is expected");
        }
    }
    reader->position++;
    reader->depth--;
    return true;
}

static bool json_value(struct json_reader *reader, struct json *value)
{
    switch (json_peek(reader)) {
    case '"':
        value->type = JSON_TEXT;
        return json_text(reader, &value->text, &value->length);
    case '[':
    case '{':
        value->type = json_peek(reader) == '{' ? JSON_OBJECT : JSON_ARRAY;
        return json_items(reader, value);
    case 't':
        value->type = JSON_TRUE;
        return json_literal(reader, "true");
    case 'f':
        value->type = JSON_FALSE;
        return json_literal(reader, "false");
    case 'n':
        value->type = JSON_NULL;
        return json_literal(reader, "null");
    default:
        return json_number(reader, value);
    }
}

/* The document in `data`, kept in `arena`; NULL with a `problem` at the byte `where` when it is none. With `halves`, half
   a surrogate pair in a text is taken as U+FFFD. */
static struct json *json_read(struct arena *arena, const void *data, size_t length, bool halves, const char **problem,
                              size_t *where)
{
    struct json_reader reader = {.data = data, .length = length, .arena = arena, .halves = halves};
    struct json *value = arena_take(arena, sizeof *value);
    bool read = false;
    if (value) {
        json_skip_space(&reader);
        read = json_value(&reader, value);
        json_skip_space(&reader);
        if (read && reader.position < length)
            read = json_problem(&reader, "something follows the document");
    }
    *problem = value ? reader.problem : "there is not enough memory";
    *where = reader.position;
    return read ? value : NULL;
}

/* The value of a key; NULL where there is none, or no object. */
static const struct json *json_get(const struct json *object, const char *key)
{
    const struct json *found = NULL;
    size_t length = strlen(key);
    if (object && object->type == JSON_OBJECT)
        for (const struct json *item = object->items; item; item = item->next)
            if (item->key_length == length && memcmp(item->key, key, length) == 0)
                found = item;
    return found;
}

static bool json_is_text(const struct json *value, const char *text)
{
    return value && value->type == JSON_TEXT && value->length == strlen(text) &&
           memcmp(value->text, text, value->length) == 0;
}

static int json_compare_keys(const void *first, const void *second)
{
    const struct json *a = *(const struct json *const *)first, *b = *(const struct json *const *)second;
    size_t shorter = a->key_length < b->key_length ? a->key_length : b->key_length;
    int order = memcmp(a->key, b->key, shorter);
    return order ? order : (a->key_length > b->key_length) - (a->key_length < b->key_length);
}

/* Whether a key stands in an object twice, anywhere in `value`: readers differ in which of them counts. True as well when
   there is no memory to tell. */
static bool json_repeats(struct arena *arena, const struct json *value)
{
    const struct json **items;
    size_t count = 0;
    bool repeats = false;
    if (value->type == JSON_OBJECT && value->length > 1) {
        if (!(items = arena_array(arena, value->length, sizeof *items)))
            return true;
        for (const struct json *item = value->items; item; item = item->next)
            items[count++] = item;
        qsort(items, count, sizeof *items, json_compare_keys);
        for (size_t index = 1; index < count; index++)
            repeats = repeats || json_compare_keys(&items[index - 1], &items[index]) == 0;
    }
    if (value->type == JSON_OBJECT || value->type == JSON_ARRAY)
        for (const struct json *item = value->items; item && !repeats; item = item->next)
            repeats = json_repeats(arena, item);
    return repeats;
}
