/* Standard input as UTF-8, line by line, with what is malformed replaced. */
#include "pocketformer.c"

int main(void)
{
    static char line[1 << 16];
    struct code_points points = {NULL, 0, 0};
    size_t length = fread(line, 1, sizeof line, stdin);
    if (!utf8_decode(line, length, &points))
        return 1;
    for (size_t index = 0; index < points.length; index++) {
        char bytes[4];
        fwrite(bytes, 1, utf8_put(points.data[index], bytes), stdout);
    }
    putchar('\n');
    code_points_free(&points);
    return 0;
}
