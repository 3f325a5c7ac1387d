#ifndef POCKETFORMER_LINKED_ONNXRUNTIME_H
#define POCKETFORMER_LINKED_ONNXRUNTIME_H

/* For `onnxruntime_api` of pf_options: the onnxruntime that is linked into the app. Nothing is opened at run time. */
const void *pf_linked_onnxruntime(void);

#endif
