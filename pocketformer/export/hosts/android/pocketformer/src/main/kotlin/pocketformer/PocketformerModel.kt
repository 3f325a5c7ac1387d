package pocketformer

import java.io.File
import java.util.concurrent.locks.ReentrantReadWriteLock
import kotlin.concurrent.read
import kotlin.concurrent.write

/** The label of a text, and its softmax probability; [index] is its place in [PocketformerModel.labels]. */
data class Answer(val label: String, val index: Int, val score: Double)

/** One check of [PocketformerModel.verify]. */
data class Check(val name: String, val ok: Boolean, val detail: String)

/** All checks; those after one that fails may be left out. */
data class Verification(val ok: Boolean, val checks: List<Check>)

/**
 * How a bundle is loaded. [onnxruntime] is the library's name or path, [threads] 0 means as the bundle says.
 *
 * With [publicKeyPem] (an Ed25519 key that comes from elsewhere than the bundle) nothing of the bundle is parsed before
 * its signature holds. That needs OpenSSL's libcrypto, whose path [libcrypto] is; Android has none that apps may open.
 */
data class Options(
    val onnxruntime: String? = "libonnxruntime.so",
    val publicKeyPem: String? = null,
    val libcrypto: String? = null,
    val threads: Int = 0,
)

/**
 * A bundle that answers. Calls block for milliseconds, so make them off the main thread, such as in
 * `withContext(Dispatchers.Default)`; several threads may share a model. All errors are [PocketformerException]s.
 */
class PocketformerModel private constructor(private var handle: Long) : AutoCloseable {
    private val lock = ReentrantReadWriteLock()

    /** In the order of the logits. */
    val labels: List<String> = NativeHost.labels(handle).map { String(it, Charsets.UTF_8) }

    /** Tokens of the longest input, special ones included. */
    val maxLength: Int = NativeHost.maxLength(handle)

    /** The answer for a text. */
    fun predict(text: String): Answer = decode(logits(tokenize(text)))

    /** Text to token ids: the first step of [predict]. */
    fun tokenize(text: String): LongArray = open { NativeHost.tokenize(it, text) }

    /** Token ids to logits, one a label: the second step. */
    fun logits(ids: LongArray): FloatArray = open { NativeHost.run(it, ids) }

    /** Logits to an answer: the last step. */
    fun decode(logits: FloatArray): Answer {
        require(logits.size == labels.size) { "${logits.size} logits for ${labels.size} labels" }
        val score = DoubleArray(1)
        val index = open { NativeHost.decode(it, logits, score) }
        return Answer(labels[index], index, score[0])
    }

    /** Free the model, after calls that are under way. Closing twice does nothing. */
    override fun close() = lock.write {
        if (handle != 0L) NativeHost.free(handle)
        handle = 0L
    }

    private inline fun <T> open(call: (Long) -> T): T = lock.read {
        check(handle != 0L) { "the model is closed" }
        call(handle)
    }

    companion object {
        /** Load the bundle in [directory]. */
        @JvmStatic
        @JvmOverloads
        fun load(directory: File, options: Options = Options()): PocketformerModel = with(options) {
            PocketformerModel(NativeHost.load(directory.path, onnxruntime, libcrypto, publicKeyPem, threads))
        }

        /** Check the files of a bundle and replay its golden samples. It throws where that cannot be done here. */
        @JvmStatic
        @JvmOverloads
        fun verify(directory: File, options: Options = Options()): Verification = with(options) {
            val checks = mutableListOf<Check>()
            val ok = NativeHost.verify(directory.path, onnxruntime, libcrypto, publicKeyPem) { name, good, detail ->
                checks += Check(String(name, Charsets.UTF_8), good, String(detail, Charsets.UTF_8))
            }
            Verification(ok, checks)
        }
    }
}
