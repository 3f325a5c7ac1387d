/* UTF-8 in both directions. */

#define REPLACEMENT 0xFFFDu

/* The next code point of `data`, which is not at its end. What is malformed gives U+FFFD and false, and is passed over by
   the longest part that could have begun a character (the Unicode standard, section 3.9, "maximal subparts"; so do
   Python and the browsers). */
static bool utf8_next(const unsigned char *data, size_t length, size_t *position, uint32_t *point)
{
    unsigned char lead = data[(*position)++];
    unsigned char low = 0x80, high = 0xBF; /* bounds of the second byte */
    int more;
    if (lead < 0x80) {
        *point = lead;
        return true;
    }
    *point = REPLACEMENT;
    if (lead >= 0xC2 && lead <= 0xDF) {
        more = 1;
    } else if (lead >= 0xE0 && lead <= 0xEF) {
        more = 2;
        low = lead == 0xE0 ? 0xA0 : low;
        high = lead == 0xED ? 0x9F : high;
    } else if (lead >= 0xF0 && lead <= 0xF4) {
        more = 3;
        low = lead == 0xF0 ? 0x90 : low;
        high = lead == 0xF4 ? 0x8F : high;
    } else {
        return false;
    }
    uint32_t value = lead & (0x3Fu >> more);
    for (; more > 0; more--) {
        if (*position >= length || data[*position] < low || data[*position] > high)
            return false;
        value = value << 6 | (data[(*position)++] & 0x3Fu);
        low = 0x80;
        high = 0xBF;
    }
    *point = value;
    return true;
}

/* Write `point` and return its length in bytes, 4 at most. */
static size_t utf8_put(uint32_t point, char *out)
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char)(0xC0 | point >> 6);
        out[1] = (char)(0x80 | (point & 0x3F));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char)(0xE0 | point >> 12);
        out[1] = (char)(0x80 | (point >> 6 & 0x3F));
        out[2] = (char)(0x80 | (point & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | point >> 18);
    out[1] = (char)(0x80 | (point >> 12 & 0x3F));
    out[2] = (char)(0x80 | (point >> 6 & 0x3F));
    out[3] = (char)(0x80 | (point & 0x3F));
    return 4;
}

/* All of a text; false when there is no memory. */
static bool utf8_decode(const char *text, size_t length, struct code_points *points)
{
    size_t position = 0;
    if (!code_points_reserve(points, length))
        return false;
    while (position < length) {
        utf8_next((const unsigned char *)text, length, &position, &points->data[points->length]);
        points->length++;
    }
    return true;
}
