package android.content.res

import java.io.File
import java.io.InputStream

/** As the real one: names in a folder, nothing for a file, files as streams. */
class AssetManager(private val root: File) {
    fun list(path: String): Array<String>? = File(root, path).list() ?: emptyArray()

    fun open(path: String): InputStream = File(root, path).inputStream()
}
