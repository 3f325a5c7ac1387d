/* The C host for a Java virtual machine: the natives of pocketformer.NativeHost, which says what they do.
 *
 * Texts come as UTF-16 and are made UTF-8 here: JNI's own "modified UTF-8" is another encoding, and a lone surrogate is
 * U+FFFD for every host of a bundle. Texts go back as bytes of UTF-8, for the same reason.
 */
#include "pocketformer.h"

#include <jni.h>
#include <stdlib.h>
#include <string.h>

#define NATIVE(result, name) JNIEXPORT result JNICALL Java_pocketformer_NativeHost_##name

static const pf_model *model_of(jlong handle)
{
    return (const pf_model *)(intptr_t)handle;
}

/* One character of UTF-16 from `units[*place]` on; half a surrogate pair is U+FFFD. */
static uint32_t next_character(const jchar *units, jsize count, jsize *place)
{
    uint32_t unit = units[(*place)++];
    if (unit < 0xD800 || unit > 0xDFFF)
        return unit;
    if (unit < 0xDC00 && *place < count && units[*place] >= 0xDC00 && units[*place] <= 0xDFFF)
        return 0x10000 + ((unit - 0xD800) << 10) + (units[(*place)++] - 0xDC00u);
    return 0xFFFD;
}

static size_t write_utf8(uint32_t point, char *bytes)
{
    static const unsigned char leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
    size_t length = point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    for (size_t index = length; index-- > 1; point >>= 6)
        bytes[index] = (char)(0x80 | (point & 0x3F));
    bytes[0] = (char)(leads[length < 2 ? 0 : length] | point);
    return length;
}

/* A text as UTF-8 with a NUL after it, to be freed; NULL for null, and without memory (then an exception is pending). */
static char *utf8_of(JNIEnv *env, jstring text, size_t *length)
{
    jsize count = text ? (*env)->GetStringLength(env, text) : 0, place = 0;
    jchar *units = text ? malloc(((size_t)count + 1) * sizeof *units) : NULL;
    char *bytes = units ? malloc(3 * (size_t)count + 1) : NULL; /* a pair's 4 bytes come of two units */
    size_t used = 0;
    if (bytes) {
        (*env)->GetStringRegion(env, text, 0, count, units);
        while (place < count)
            used += write_utf8(next_character(units, count, &place), bytes + used);
        bytes[used] = '\0';
    } else if (text) {
        jclass type = (*env)->FindClass(env, "java/lang/OutOfMemoryError");
        if (type)
            (*env)->ThrowNew(env, type, "no memory for a text");
    }
    free(units);
    if (length)
        *length = used;
    return bytes;
}

static jbyteArray bytes_of(JNIEnv *env, const char *text)
{
    jsize length = (jsize)strlen(text);
    jbyteArray bytes = (*env)->NewByteArray(env, length);
    if (bytes)
        (*env)->SetByteArrayRegion(env, bytes, 0, length, (const jbyte *)text);
    return bytes;
}

/* Throw a PocketformerException; one that is pending already stays. */
static void throw_error(JNIEnv *env, const pf_error *error)
{
    if ((*env)->ExceptionCheck(env))
        return;
    jclass type = (*env)->FindClass(env, "pocketformer/PocketformerException");
    jmethodID make = type ? (*env)->GetMethodID(env, type, "<init>", "(I[B[B)V") : NULL;
    jbyteArray message = make ? bytes_of(env, error->message) : NULL, hint = message ? bytes_of(env, error->hint) : NULL;
    jobject thrown = hint ? (*env)->NewObject(env, type, make, (jint)error->code, message, hint) : NULL;
    if (thrown)
        (*env)->Throw(env, thrown);
}

static void throw_no_memory(JNIEnv *env)
{
    const pf_error error = {PF_INTERNAL, "there is not enough memory", ""};
    throw_error(env, &error);
}

/* The texts of a call's options, to be freed. */
struct texts {
    char *directory, *onnxruntime, *libcrypto, *public_key_pem;
};

/* Not 0 where none of them failed; else an exception is pending. */
static int take_texts(JNIEnv *env, struct texts *texts, pf_options *options, jstring directory, jstring onnxruntime,
                      jstring libcrypto, jstring key)
{
    texts->directory = utf8_of(env, directory, NULL);
    texts->onnxruntime = utf8_of(env, onnxruntime, NULL);
    texts->libcrypto = utf8_of(env, libcrypto, NULL);
    texts->public_key_pem = utf8_of(env, key, NULL);
    memset(options, 0, sizeof *options);
    options->onnxruntime = texts->onnxruntime;
    options->libcrypto = texts->libcrypto;
    options->public_key_pem = texts->public_key_pem;
    return !(*env)->ExceptionCheck(env);
}

static void free_texts(struct texts *texts)
{
    free(texts->directory);
    free(texts->onnxruntime);
    free(texts->libcrypto);
    free(texts->public_key_pem);
}

NATIVE(jlong, load)(JNIEnv *env, jclass type, jstring directory, jstring onnxruntime, jstring libcrypto, jstring key,
                    jint threads)
{
    (void)type;
    struct texts texts;
    pf_options options;
    pf_error error;
    pf_model *model = NULL;
    if (take_texts(env, &texts, &options, directory, onnxruntime, libcrypto, key)) {
        options.threads = threads;
        model = pf_load(texts.directory, &options, &error);
        if (!model)
            throw_error(env, &error);
    }
    free_texts(&texts);
    return (jlong)(intptr_t)model;
}

NATIVE(void, free)(JNIEnv *env, jclass type, jlong handle)
{
    (void)env, (void)type;
    pf_free((pf_model *)(intptr_t)handle);
}

NATIVE(jint, maxLength)(JNIEnv *env, jclass type, jlong handle)
{
    (void)env, (void)type;
    return (jint)pf_max_length(model_of(handle));
}

NATIVE(jobjectArray, labels)(JNIEnv *env, jclass type, jlong handle)
{
    (void)type;
    const pf_model *model = model_of(handle);
    jclass bytes = (*env)->FindClass(env, "[B");
    jsize count = (jsize)pf_label_count(model);
    jobjectArray labels = bytes ? (*env)->NewObjectArray(env, count, bytes, NULL) : NULL;
    for (jsize index = 0; labels && index < count; index++) {
        jbyteArray label = bytes_of(env, pf_label(model, (size_t)index));
        if (!label)
            return NULL;
        (*env)->SetObjectArrayElement(env, labels, index, label);
        (*env)->DeleteLocalRef(env, label);
    }
    return labels;
}

NATIVE(jlongArray, tokenize)(JNIEnv *env, jclass type, jlong handle, jstring text)
{
    (void)type;
    const pf_model *model = model_of(handle);
    pf_error error;
    jlongArray result = NULL;
    size_t length, count = 0;
    char *bytes = utf8_of(env, text, &length);
    int64_t *ids = bytes ? malloc(pf_max_length(model) * sizeof *ids) : NULL;
    if (bytes && !ids)
        throw_no_memory(env);
    else if (ids && pf_tokenize(model, bytes, length, ids, &count, &error) != PF_OK)
        throw_error(env, &error);
    else if (ids && (result = (*env)->NewLongArray(env, (jsize)count)))
        (*env)->SetLongArrayRegion(env, result, 0, (jsize)count, (const jlong *)ids);
    free(bytes);
    free(ids);
    return result;
}

NATIVE(jfloatArray, run)(JNIEnv *env, jclass type, jlong handle, jlongArray tokens)
{
    (void)type;
    const pf_model *model = model_of(handle);
    pf_error error;
    jfloatArray result = NULL;
    jsize labels = (jsize)pf_label_count(model), count = (*env)->GetArrayLength(env, tokens);
    float *logits = malloc((size_t)labels * sizeof *logits);
    jlong *ids = malloc(((size_t)count + 1) * sizeof *ids);
    if (!logits || !ids) {
        throw_no_memory(env);
    } else {
        (*env)->GetLongArrayRegion(env, tokens, 0, count, ids);
        if (pf_run(model, (const int64_t *)ids, (size_t)count, logits, &error) != PF_OK)
            throw_error(env, &error);
        else if ((result = (*env)->NewFloatArray(env, labels)))
            (*env)->SetFloatArrayRegion(env, result, 0, labels, logits);
    }
    free(logits);
    free(ids);
    return result;
}

NATIVE(jint, decode)(JNIEnv *env, jclass type, jlong handle, jfloatArray values, jdoubleArray score)
{
    (void)type;
    const pf_model *model = model_of(handle);
    jsize labels = (jsize)pf_label_count(model);
    float *logits = malloc((size_t)labels * sizeof *logits);
    pf_answer answer = {NULL, 0, 0.0};
    if (!logits) {
        throw_no_memory(env);
        return 0;
    }
    (*env)->GetFloatArrayRegion(env, values, 0, labels, logits); /* throws where there are fewer */
    if (!(*env)->ExceptionCheck(env)) {
        answer = pf_decode(model, logits);
        (*env)->SetDoubleArrayRegion(env, score, 0, 1, &answer.score);
    }
    free(logits);
    return (jint)answer.index;
}

/* Where the checks of a verification are told: a CheckListener. */
struct listener {
    JNIEnv *env;
    jobject listener;
    jmethodID told;
};

static void tell_check(const pf_check *check, void *user)
{
    const struct listener *listener = user;
    JNIEnv *env = listener->env;
    if ((*env)->ExceptionCheck(env))
        return;
    jbyteArray name = bytes_of(env, check->name), detail = name ? bytes_of(env, check->detail) : NULL;
    if (detail)
        (*env)->CallVoidMethod(env, listener->listener, listener->told, name, (jboolean)(check->ok != 0), detail);
    (*env)->DeleteLocalRef(env, name);
    (*env)->DeleteLocalRef(env, detail);
}

NATIVE(jboolean, verify)(JNIEnv *env, jclass type, jstring directory, jstring onnxruntime, jstring libcrypto,
                         jstring key, jobject listener)
{
    (void)type;
    struct texts texts;
    pf_options options;
    pf_error error;
    pf_code code = PF_INTERNAL;
    jclass listening = (*env)->GetObjectClass(env, listener);
    struct listener telling = {env, listener, (*env)->GetMethodID(env, listening, "told", "([BZ[B)V")};
    if (telling.told && take_texts(env, &texts, &options, directory, onnxruntime, libcrypto, key)) {
        code = pf_verify(texts.directory, &options, tell_check, &telling, &error);
        if (code != PF_OK && code != PF_REFUSED)
            throw_error(env, &error);
    }
    if (telling.told)
        free_texts(&texts);
    return code == PF_OK;
}
