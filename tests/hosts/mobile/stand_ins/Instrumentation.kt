package androidx.test.platform.app

import android.content.Context

object InstrumentationRegistry {
    class Instrumentation {
        val targetContext = Context()
    }

    fun getInstrumentation() = Instrumentation()
}
