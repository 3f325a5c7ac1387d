/* The entries of onnxruntime's table of functions that are used, by their places in it.
 *
 * onnxruntime_c_api.h, above the end of `struct OrtApi`: the order of entries that were released never changes, new ones
 * come at the end, and GetApi(version) refuses a version that the library lacks. So the places below hold for every
 * library with version 16 of the interface (onnxruntime 1.16) or later, and no header of onnxruntime is needed.
 * A test compares places and types with the real header. */

#define ORT_INTERFACE 16

typedef struct OrtStatus OrtStatus;
typedef struct OrtEnv OrtEnv;
typedef struct OrtSession OrtSession;
typedef struct OrtSessionOptions OrtSessionOptions;
typedef struct OrtRunOptions OrtRunOptions;
typedef struct OrtMemoryInfo OrtMemoryInfo;
typedef struct OrtAllocator OrtAllocator;
typedef struct OrtValue OrtValue;
typedef struct OrtTensorTypeAndShapeInfo OrtTensorTypeAndShapeInfo;

/* X(name, place, result, parameters). Enumerations are passed as the integers that they are. */
#define ORT_ENTRIES(X)                                                                                                 \
    X(GetErrorMessage, 2, const char *, (const OrtStatus *))                                                           \
    X(CreateEnv, 3, OrtStatus *, (unsigned, const char *, OrtEnv **))                                                  \
    X(CreateSessionFromArray, 8, OrtStatus *,                                                                          \
      (const OrtEnv *, const void *, size_t, const OrtSessionOptions *, OrtSession **))                                \
    X(Run, 9, OrtStatus *,                                                                                             \
      (OrtSession *, const OrtRunOptions *, const char *const *, const OrtValue *const *, size_t, const char *const *, \
       size_t, OrtValue **))                                                                                           \
    X(CreateSessionOptions, 10, OrtStatus *, (OrtSessionOptions **))                                                   \
    X(SetSessionExecutionMode, 13, OrtStatus *, (OrtSessionOptions *, unsigned))                                       \
    X(EnableCpuMemArena, 18, OrtStatus *, (OrtSessionOptions *))                                                       \
    X(DisableCpuMemArena, 19, OrtStatus *, (OrtSessionOptions *))                                                      \
    X(SetSessionLogSeverityLevel, 22, OrtStatus *, (OrtSessionOptions *, int))                                         \
    X(SetSessionGraphOptimizationLevel, 23, OrtStatus *, (OrtSessionOptions *, unsigned))                              \
    X(SetIntraOpNumThreads, 24, OrtStatus *, (OrtSessionOptions *, int))                                               \
    X(SetInterOpNumThreads, 25, OrtStatus *, (OrtSessionOptions *, int))                                               \
    X(SessionGetInputCount, 30, OrtStatus *, (const OrtSession *, size_t *))                                           \
    X(SessionGetInputName, 36, OrtStatus *, (const OrtSession *, size_t, OrtAllocator *, char **))                     \
    X(SessionGetOutputName, 37, OrtStatus *, (const OrtSession *, size_t, OrtAllocator *, char **))                    \
    X(CreateTensorWithDataAsOrtValue, 49, OrtStatus *,                                                                 \
      (const OrtMemoryInfo *, void *, size_t, const int64_t *, size_t, unsigned, OrtValue **))                         \
    X(GetTensorMutableData, 51, OrtStatus *, (OrtValue *, void **))                                                    \
    X(GetTensorElementType, 60, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, unsigned *))                          \
    X(GetDimensionsCount, 61, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, size_t *))                              \
    X(GetDimensions, 62, OrtStatus *, (const OrtTensorTypeAndShapeInfo *, int64_t *, size_t))                          \
    X(GetTensorTypeAndShape, 65, OrtStatus *, (const OrtValue *, OrtTensorTypeAndShapeInfo **))                        \
    X(CreateCpuMemoryInfo, 69, OrtStatus *, (int, int, OrtMemoryInfo **))                                              \
    X(AllocatorFree, 76, OrtStatus *, (OrtAllocator *, void *))                                                        \
    X(GetAllocatorWithDefaultOptions, 78, OrtStatus *, (OrtAllocator **))                                              \
    X(ReleaseEnv, 92, void, (OrtEnv *))                                                                                \
    X(ReleaseStatus, 93, void, (OrtStatus *))                                                                          \
    X(ReleaseMemoryInfo, 94, void, (OrtMemoryInfo *))                                                                  \
    X(ReleaseSession, 95, void, (OrtSession *))                                                                        \
    X(ReleaseValue, 96, void, (OrtValue *))                                                                            \
    X(ReleaseTensorTypeAndShapeInfo, 99, void, (OrtTensorTypeAndShapeInfo *))                                          \
    X(ReleaseSessionOptions, 100, void, (OrtSessionOptions *))                                                         \
    X(AddSessionConfigEntry, 130, OrtStatus *, (OrtSessionOptions *, const char *, const char *))

#define ORT_TYPE(name, place, result, parameters) typedef result(*ort_##name##_function) parameters;
ORT_ENTRIES(ORT_TYPE)
#define ORT_PLACE(name, place, result, parameters) ORT_##name##_PLACE = place,
enum ort_place { ORT_ENTRIES(ORT_PLACE) ORT_PLACES };

/* The table itself, and what gives it. */
struct ort_table {
    void (*entries[ORT_PLACES])(void);
};
struct ort_base {
    const struct ort_table *(*get_api)(uint32_t version);
    const char *(*get_version)(void);
};

#define ORT(table, name) ((ort_##name##_function)(table)->entries[ORT_##name##_PLACE])

enum { ORT_FLOAT = 1, ORT_INT64 = 7 }; /* of ONNXTensorElementDataType */
enum { ORT_FATAL = 4 };                /* of OrtLoggingLevel */
