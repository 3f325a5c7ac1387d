package pocketformer

/** Told of each check of a verification; bytes are UTF-8. */
internal fun interface CheckListener {
    fun told(name: ByteArray, ok: Boolean, detail: ByteArray)
}

/** The C host as pocketformer_jni.c shows it. Handles are of [load], until [free]; errors are [PocketformerException]s. */
internal object NativeHost {
    init {
        System.loadLibrary("pocketformer_jni")
    }

    @JvmStatic
    external fun load(
        directory: String,
        onnxruntime: String?,
        libcrypto: String?,
        publicKeyPem: String?,
        threads: Int,
    ): Long

    @JvmStatic
    external fun free(handle: Long)

    @JvmStatic
    external fun maxLength(handle: Long): Int

    /** In the order of the logits, as UTF-8. */
    @JvmStatic
    external fun labels(handle: Long): Array<ByteArray>

    @JvmStatic
    external fun tokenize(handle: Long, text: String): LongArray

    @JvmStatic
    external fun run(handle: Long, ids: LongArray): FloatArray

    /** The index of the answer; its probability goes to `score[0]`. */
    @JvmStatic
    external fun decode(handle: Long, logits: FloatArray, score: DoubleArray): Int

    /** Whether all checks hold. */
    @JvmStatic
    external fun verify(
        directory: String,
        onnxruntime: String?,
        libcrypto: String?,
        publicKeyPem: String?,
        listener: CheckListener,
    ): Boolean
}
