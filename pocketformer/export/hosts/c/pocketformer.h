/* Predict with a Pocketformer bundle from C.
 *
 *     pf_error error;
 *     pf_answer answer;
 *     pf_model *model = pf_load("model", NULL, &error);
 *     if (model && pf_predict(model, text, strlen(text), &answer, &error) == PF_OK)
 *         printf("%s %.3f\n", answer.label, answer.score);
 *     pf_free(model);
 *
 * C11 and libc; libonnxruntime is opened at run time, libcrypto only where a key is given. The library keeps no global
 * state, prints nothing, never ends the process, and does not depend on the locale. A model may be used by several
 * threads at once. Bundle format and limits: docs/bundle-format.md of Pocketformer.
 */
#ifndef POCKETFORMER_H
#define POCKETFORMER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What went wrong; the values are the exit codes of Pocketformer's commands. */
typedef enum pf_code {
    PF_OK = 0,
    PF_INTERNAL = 1, /* no memory, or the machine fails otherwise */
    PF_USAGE = 2,    /* the caller's input: no such folder, a key that is none, a buffer too small */
    PF_MISSING = 4,  /* no onnxruntime, no libcrypto, or a bundle for what this host does not have */
    PF_REFUSED = 5   /* the bundle is damaged, hostile or does not hold what it promises */
} pf_code;

/* Filled where a function fails: what was wrong and where, and what to do (may be empty). UTF-8, ends with NUL. */
typedef struct pf_error {
    pf_code code;
    char message[768];
    char hint[256];
} pf_error;

/* Set all of it to zero first; a zero means the default. Nothing of it is kept after the call. */
typedef struct pf_options {
    /* Path of libonnxruntime. Default: $POCKETFORMER_ONNXRUNTIME, else libonnxruntime.so.1 where the loader finds it. */
    const char *onnxruntime;
    /* Path of libcrypto. Default: $POCKETFORMER_LIBCRYPTO, else libcrypto.so.3 or .1.1 where the loader finds it. */
    const char *libcrypto;
    /* PEM of the Ed25519 key that must have signed the bundle: then nothing of the bundle is parsed before the signature
       holds, and no file before its SHA-256 does. The key comes from elsewhere than the bundle. */
    const char *public_key_pem;
    /* Threads of one call; 0: as the bundle says. */
    int threads;
    /* Not 0: only pf_tokenize will be called; onnxruntime is not opened and the graph not read. */
    int tokenizer_only;
} pf_options;

typedef struct pf_model pf_model;

typedef struct pf_answer {
    const char *label; /* belongs to the model */
    size_t index;      /* of the label, in the order of the logits */
    double score;      /* softmax probability of the label */
} pf_answer;

/* Load the bundle in `directory`; `options` may be NULL. NULL on failure, with `error` filled.
   Sizes of files are compared with the manifest; hashes too where a key is given (else that is what pf_verify is for). */
pf_model *pf_load(const char *directory, const pf_options *options, pf_error *error);
void pf_free(pf_model *model); /* NULL is allowed; no call may be under way */

size_t pf_label_count(const pf_model *model);
const char *pf_label(const pf_model *model, size_t index); /* NULL beyond the last one */
size_t pf_max_length(const pf_model *model);               /* tokens of the longest input, special ones included */

/* The label of a text of `length` bytes of UTF-8 (NUL is a character; what is malformed counts as U+FFFD). */
pf_code pf_predict(const pf_model *model, const char *text, size_t length, pf_answer *answer, pf_error *error);

/* The same in its three steps. Text to token ids: `ids` holds pf_max_length numbers at most, `count` says how many. */
pf_code pf_tokenize(const pf_model *model, const char *text, size_t length, int64_t *ids, size_t *count,
                    pf_error *error);
/* Token ids to logits: `logits` holds pf_label_count numbers. */
pf_code pf_run(const pf_model *model, const int64_t *ids, size_t count, float *logits, pf_error *error);
/* Logits to an answer: the first largest, and its softmax probability in double precision. */
pf_answer pf_decode(const pf_model *model, const float *logits);

/* One check of pf_verify; the texts live until the callback returns. */
typedef struct pf_check {
    const char *name; /* signature, manifest, files, golden, load, tokenizer, logits or labels */
    int ok;
    const char *detail;
} pf_check;
typedef void (*pf_check_callback)(const pf_check *check, void *user);

/* Check a bundle and replay its golden samples, one callback a check. PF_OK: all hold; PF_REFUSED: one does not, and
   those that would need it are left out; otherwise nothing is said of the bundle, and `error` tells why. */
pf_code pf_verify(const char *directory, const pf_options *options, pf_check_callback callback, void *user,
                  pf_error *error);

#ifdef __cplusplus
}
#endif
#endif
