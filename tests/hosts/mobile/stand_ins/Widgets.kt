@file:Suppress("UNUSED_PARAMETER")

package android.widget

import android.content.Context
import android.view.View

open class TextView(context: Context) : View() {
    var text: CharSequence = ""
    var hint: CharSequence = ""
}

open class Button(context: Context) : TextView(context)

open class EditText(context: Context) : TextView(context)

open class LinearLayout(context: Context) : View() {
    var orientation = 0

    fun addView(view: View) {}

    companion object {
        const val VERTICAL = 1
    }
}
