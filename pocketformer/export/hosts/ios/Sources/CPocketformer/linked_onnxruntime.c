#include "linked_onnxruntime.h"

/* onnxruntime_c_api.h declares it with its own type; a pointer it is all the same. */
const void *OrtGetApiBase(void);

const void *pf_linked_onnxruntime(void)
{
    return OrtGetApiBase();
}
