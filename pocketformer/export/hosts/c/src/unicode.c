/* What characters are and become, by the tables that were taken from `tokenizers`. */

/* The row of sorted `rows` of `width` numbers (first, last, ...) in which `point` lies; NULL where it lies in none. */
static const uint32_t *find_row(const uint32_t *rows, size_t count, size_t width, uint32_t point)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const uint32_t *row = rows + middle * width;
        if (point < row[0])
            high = middle;
        else if (point > row[1])
            low = middle + 1;
        else
            return row;
    }
    return NULL;
}

#define FIND_ROW(table, point) \
    find_row(&(table)[0][0], sizeof(table) / sizeof *(table), sizeof *(table) / sizeof **(table), point)

static bool is_removed(uint32_t point)
{
    return FIND_ROW(removed_points, point) != NULL;
}

static bool is_space(uint32_t point)
{
    return FIND_ROW(space_points, point) != NULL;
}

static bool is_punctuation(uint32_t point)
{
    return FIND_ROW(punctuation_points, point) != NULL;
}

static bool is_ideograph(uint32_t point)
{
    return FIND_ROW(ideograph_points, point) != NULL;
}

static bool is_nonspacing(uint32_t point)
{
    return FIND_ROW(nonspacing_points, point) != NULL;
}

/* What a regular expression calls a word character. */
static bool is_word(uint32_t point)
{
    return FIND_ROW(word_points, point) != NULL;
}

static uint32_t combining_class(uint32_t point)
{
    const uint32_t *row = point < 0x300 ? NULL : FIND_ROW(combining_classes, point);
    return row ? row[2] : 0;
}

static bool add_lowercase(struct code_points *points, uint32_t point)
{
    if (point == 0x130) /* the only one that becomes two */
        return code_points_add(points, 'i') && code_points_add(points, 0x307);
    const uint32_t *row = FIND_ROW(lowercase_ranges, point);
    bool changes = row && (point - row[0]) % row[2] == 0;
    return code_points_add(points, changes ? point + row[3] : point); /* modulo 2^32: the difference may be negative */
}

/* The canonical decomposition of one character; Hangul's by arithmetic (the Unicode standard, section 3.12). */
static bool add_decomposed(struct code_points *points, uint32_t point)
{
    size_t low = 0, high = sizeof decompositions / sizeof *decompositions;
    if (point >= 0xAC00 && point < 0xAC00 + 11172) {
        uint32_t index = point - 0xAC00, tail = index % 28;
        return code_points_add(points, 0x1100 + index / 588) && code_points_add(points, 0x1161 + index % 588 / 28) &&
               (tail == 0 || code_points_add(points, 0x11A7 + tail));
    }
    if (point < 0xC0)
        return code_points_add(points, point);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const uint32_t *row = decompositions[middle];
        if (point == row[0]) {
            for (uint32_t index = 0; index < row[2]; index++)
                if (!code_points_add(points, decomposed_points[row[1] + index][0]))
                    return false;
            return true;
        }
        if (point < row[0])
            high = middle;
        else
            low = middle + 1;
    }
    return code_points_add(points, point);
}

/* Sort a run of `count` marks by their classes, keeping the order of equals. */
static bool sort_marks(uint32_t *marks, size_t count)
{
    if (count > 32) { /* counted: a hostile text may consist of nothing else */
        size_t starts[257] = {0};
        uint32_t *copy = malloc(count * sizeof *copy);
        if (!copy)
            return false;
        memcpy(copy, marks, count * sizeof *copy);
        for (size_t index = 0; index < count; index++)
            starts[combining_class(copy[index]) + 1]++;
        for (size_t class = 1; class < 257; class ++)
            starts[class] += starts[class - 1];
        for (size_t index = 0; index < count; index++)
            marks[starts[combining_class(copy[index])]++] = copy[index];
        free(copy);
        return true;
    }
    for (size_t index = 1; index < count; index++) {
        uint32_t mark = marks[index], class = combining_class(mark);
        size_t place = index;
        for (; place > 0 && combining_class(marks[place - 1]) > class; place--)
            marks[place] = marks[place - 1];
        marks[place] = mark;
    }
    return true;
}

/* Canonical order: every run of combining marks is sorted by their classes. */
static bool order_marks(struct code_points *points)
{
    size_t index = 0;
    while (index < points->length) {
        size_t start = index;
        while (index < points->length && combining_class(points->data[index]) != 0)
            index++;
        if (index - start > 1 && !sort_marks(points->data + start, index - start))
            return false;
        index += index == start;
    }
    return true;
}
