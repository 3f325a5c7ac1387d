package android.view

open class View {
    fun interface OnClickListener {
        fun onClick(view: View)
    }

    var fitsSystemWindows = false

    fun setOnClickListener(listener: OnClickListener?) {}
}
