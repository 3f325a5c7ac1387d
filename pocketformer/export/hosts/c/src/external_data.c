/* Walks the protobuf of an ONNX graph and refuses tensors whose data lie outside of it, and nodes whose engine does
 * (EPContext), before any engine could open the file that they name. Field numbers: onnx/onnx.proto, which never changes them.
 *
 * What protobuf merges or takes last is refused where it stands once; what is no well-formed message is refused whole. */

#define GRAPH_DEPTH 100 /* protobuf itself reads no deeper */

enum onnx_message {
    ONNX_MODEL,
    ONNX_GRAPH,
    ONNX_NODE,
    ONNX_ATTRIBUTE,
    ONNX_TENSOR,
    ONNX_SPARSE_TENSOR,
    ONNX_FUNCTION,
    ONNX_TRAINING
};

/* Which fields of which message hold messages with tensors in them. */
static const struct {
    enum onnx_message inside;
    uint32_t field;
    enum onnx_message holds;
} onnx_fields[] = {
    {ONNX_MODEL, 7, ONNX_GRAPH},          {ONNX_MODEL, 20, ONNX_TRAINING},          {ONNX_MODEL, 25, ONNX_FUNCTION},
    {ONNX_GRAPH, 1, ONNX_NODE},           {ONNX_GRAPH, 5, ONNX_TENSOR},             {ONNX_GRAPH, 15, ONNX_SPARSE_TENSOR},
    {ONNX_NODE, 5, ONNX_ATTRIBUTE},       {ONNX_ATTRIBUTE, 5, ONNX_TENSOR},         {ONNX_ATTRIBUTE, 6, ONNX_GRAPH},
    {ONNX_ATTRIBUTE, 10, ONNX_TENSOR},    {ONNX_ATTRIBUTE, 11, ONNX_GRAPH},         {ONNX_ATTRIBUTE, 22, ONNX_SPARSE_TENSOR},
    {ONNX_ATTRIBUTE, 23, ONNX_SPARSE_TENSOR}, {ONNX_SPARSE_TENSOR, 1, ONNX_TENSOR}, {ONNX_SPARSE_TENSOR, 2, ONNX_TENSOR},
    {ONNX_FUNCTION, 7, ONNX_NODE},        {ONNX_FUNCTION, 11, ONNX_ATTRIBUTE},      {ONNX_TRAINING, 1, ONNX_GRAPH},
    {ONNX_TRAINING, 2, ONNX_GRAPH},
};

#define NODE_OPERATOR 4
#define TENSOR_EXTERNAL_DATA 13
#define TENSOR_DATA_LOCATION 14

static bool read_varint(const unsigned char **data, const unsigned char *end, uint64_t *value)
{
    *value = 0;
    for (int shift = 0; shift < 70 && *data < end; shift += 7) {
        unsigned char byte = *(*data)++;
        *value |= shift < 64 ? (uint64_t)(byte & 0x7F) << shift : 0;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* NULL when all is well, else what is wrong with the message. */
static const char *walk_message(const unsigned char *data, const unsigned char *end, enum onnx_message kind, int depth)
{
    static const char damaged[] = "is no well-formed ONNX", external[] = "has external data: an ONNX graph is one file";
    if (depth > GRAPH_DEPTH)
        return "is nested deeper than ONNX can be read";
    while (data < end) {
        uint64_t tag, value;
        if (!read_varint(&data, end, &tag) || tag >> 3 == 0 || tag > UINT32_MAX)
            return damaged;
        bool located = kind == ONNX_TENSOR && tag >> 3 == TENSOR_DATA_LOCATION;
        if ((kind == ONNX_TENSOR && tag >> 3 == TENSOR_EXTERNAL_DATA) || (located && (tag & 7) != 0))
            return external;
        switch (tag & 7) {
        case 0:
            if (!read_varint(&data, end, &value))
                return damaged;
            if (located && value != 0)
                return external;
            continue;
        case 1:
            value = 8;
            break;
        case 2:
            if (!read_varint(&data, end, &value))
                return damaged;
            break;
        case 5:
            value = 4;
            break;
        default: /* groups, which ONNX does not have */
            return damaged;
        }
        if (value > (uint64_t)(end - data))
            return damaged;
        if ((tag & 7) == 2) {
            if (kind == ONNX_NODE && tag >> 3 == NODE_OPERATOR && value == 9 && memcmp(data, "EPContext", 9) == 0)
                return "has its engine in another file (EPContext): an ONNX graph is one file";
            for (size_t index = 0; index < sizeof onnx_fields / sizeof *onnx_fields; index++) {
                if (onnx_fields[index].inside != kind || onnx_fields[index].field != tag >> 3)
                    continue;
                const char *wrong = walk_message(data, data + value, onnx_fields[index].holds, depth + 1);
                if (wrong)
                    return wrong;
            }
        }
        data += value;
    }
    return NULL;
}

/* NULL for a graph that is one file, else what is wrong with it. */
static const char *graph_refused(const struct bytes *graph)
{
    /* onnxruntime would take it for its own format, which may name other files as well. */
    if (graph->length >= 8 && memcmp(graph->data + 4, "ORTM", 4) == 0)
        return "is in onnxruntime's own format, not ONNX";
    return walk_message(graph->data, graph->data + graph->length, ONNX_MODEL, 0);
}
