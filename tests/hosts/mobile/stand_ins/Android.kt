// Stand-ins for the few classes of Android's SDK that the module and the sample name: enough to compile them and, for
// assets over a folder of this computer, to run them. They are not Android.

package android.content

import android.content.res.AssetManager
import java.io.File

open class Context {
    open val filesDir: File get() = File(System.getProperty("stand.in.files"))
    open val assets: AssetManager get() = AssetManager(File(System.getProperty("stand.in.assets")))
    open val applicationContext: Context get() = this
}
