package pocketformer

import java.io.ByteArrayInputStream
import java.io.File
import java.io.IOException
import java.nio.file.Files
import org.junit.After
import org.junit.Assert.assertEquals
import org.junit.Assert.assertThrows
import org.junit.Test

/** On the computer: `./gradlew :pocketformer:test`. */
class BundleStoreTest {
    private val folder: File = Files.createTempDirectory("bundles").toFile()
    private val store = BundleStore(File(folder, "model"))

    @After
    fun remove() {
        folder.deleteRecursively()
    }

    private class Texts(val texts: Map<String, String>) : BundleSource {
        var opened = 0

        override fun files() = texts.keys.toList()

        override fun open(path: String) =
            ByteArrayInputStream((texts[path] ?: throw IOException(path)).toByteArray()).also { opened++ }
    }

    @Test
    fun aBundleIsCopiedOnce() {
        val source = Texts(mapOf("manifest.json" to "{}", "parts/model.onnx" to "graph"))
        val place = store.install(source)
        assertEquals("graph", File(place, "parts/model.onnx").readText())
        assertEquals(3, source.opened)
        assertEquals(place, store.install(source))
        assertEquals(4, source.opened)
    }

    @Test
    fun anotherManifestReplacesTheCopy() {
        val old = store.install(Texts(mapOf("manifest.json" to "old")))
        val place = store.install(Texts(mapOf("manifest.json" to "new")))
        assertEquals("new", File(place, "manifest.json").readText())
        assertEquals(listOf(place), old.parentFile!!.listFiles()!!.toList())
    }

    @Test
    fun whatCannotBeCopiedLeavesNothing() {
        val broken = object : BundleSource by Texts(mapOf("manifest.json" to "{}")) {
            override fun files() = listOf("manifest.json", "missing")
        }
        assertThrows(IOException::class.java) { store.install(broken) }
        val outside = Texts(mapOf("manifest.json" to "{}", "../outside" to ""))
        assertThrows(IOException::class.java) { store.install(outside) }
        assertEquals(emptyList<String>(), File(folder, "model").list()!!.toList())
        assertEquals(listOf("model"), folder.list()!!.toList())
    }
}
