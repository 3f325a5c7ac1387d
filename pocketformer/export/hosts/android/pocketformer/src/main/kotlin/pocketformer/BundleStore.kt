package pocketformer

import java.io.File
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest
import java.util.UUID

/** Where the files of a bundle come from, such as an app's assets. Paths are relative and use forward slashes. */
interface BundleSource {
    fun files(): List<String>

    fun open(path: String): InputStream
}

/** Keeps the copy of one bundle below [folder], which is its own: the C host reads files, and assets are none. */
class BundleStore(private val folder: File) {
    /**
     * The folder with the files of [source]: copied when its manifest, which has the hashes of all the others, is not
     * the one that was copied last. A copy is there whole or not at all; those of other manifests are removed.
     */
    @Synchronized
    fun install(source: BundleSource): File {
        val manifest = source.open(MANIFEST).use { it.readBytes() }
        val name = MessageDigest.getInstance("SHA-256").digest(manifest).joinToString("") { "%02x".format(it) }
        val place = File(folder, name)
        if (!place.isDirectory) {
            val work = File(folder, "$name.${UUID.randomUUID()}")
            try {
                source.files().forEach { copy(source, it, work) }
                // Another process may have been first.
                if (!work.renameTo(place) && !place.isDirectory) throw IOException("$work cannot be renamed to $place")
            } finally {
                work.deleteRecursively()
            }
        }
        folder.listFiles().orEmpty().filter { it != place }.forEach { it.deleteRecursively() }
        return place
    }

    private fun copy(source: BundleSource, path: String, work: File) {
        if (path.split('/').any { it.isEmpty() || it == "." || it == ".." }) {
            throw IOException("a bundle holds no file '$path'")
        }
        val file = File(work, path)
        file.parentFile?.mkdirs()
        source.open(path).use { input -> file.outputStream().use { input.copyTo(it) } }
    }

    private companion object {
        const val MANIFEST = "manifest.json"
    }
}
