/* Pocketformer's C host; the interface and how to use it stand in pocketformer.h.
 *
 * The parts are read in this order as one translation unit, so that nothing but the interface is visible outside.
 * `pocketformer bundle --for c` writes them out into this one file.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity: the cores that this process may use */
#endif

#include "pocketformer.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "src/errors.c"
#include "src/memory.c"
#include "src/utf8.c"
#include "src/json.c"
#include "src/sha256.c"
#include "src/files.c"
#include "src/manifest_fields.c"
#include "src/manifest.c"
#include "src/external_data.c"
#include "src/library.c"
#include "src/signature.c"
#include "src/unicode_tables.h"
#include "src/unicode.c"
#include "src/vocabulary.c"
#include "src/added_tokens.c"
#include "src/tokenizer.c"
#include "src/tokenizer_file.c"
#include "src/onnxruntime_api.h"
#include "src/session.c"
#include "src/golden.c"
#include "src/model.c"
#include "src/verify.c"
