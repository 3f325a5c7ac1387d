package pocketformer

/** What went wrong: [code] says of which kind, [hint] what to do (may be empty). */
class PocketformerException(val code: Code, message: String, val hint: String) : Exception(message) {
    /** [number] is the exit code that Pocketformer's commands have for it. */
    enum class Code(val number: Int) {
        /** No memory, or the machine fails otherwise. */
        INTERNAL(1),

        /** The caller's input: no such folder, a key that is none. */
        USAGE(2),

        /** No onnxruntime, no libcrypto, or a bundle for what this host does not have. */
        MISSING(4),

        /** The bundle is damaged, hostile or does not hold what it promises. */
        REFUSED(5),
    }

    /** Called from C. */
    @Suppress("unused")
    internal constructor(code: Int, message: ByteArray, hint: ByteArray) : this(
        Code.entries.first { it.number == code },
        String(message, Charsets.UTF_8),
        String(hint, Charsets.UTF_8),
    )
}
