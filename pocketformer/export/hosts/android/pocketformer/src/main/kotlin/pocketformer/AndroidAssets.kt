package pocketformer

import android.content.Context
import android.content.res.AssetManager
import java.io.File
import java.io.InputStream

/** The bundle in the app's assets at [path], copied to the app's files when it is not there yet: off the main thread. */
fun bundleInAssets(context: Context, path: String = "model"): File =
    BundleStore(File(context.filesDir, "pocketformer/$path")).install(Assets(context.assets, path))

private class Assets(private val assets: AssetManager, private val path: String) : BundleSource {
    override fun files(): List<String> = below("")

    override fun open(path: String): InputStream = assets.open("${this.path}/$path")

    private fun below(folder: String): List<String> =
        assets.list((path + folder)).orEmpty().flatMap { name ->
            val place = "$folder/$name"
            // A file is a folder of nothing to an AssetManager, and there are no empty folders.
            below(place).ifEmpty { listOf(place.drop(1)) }
        }
}
