package pocketformer.sample

import android.app.Activity
import android.os.Bundle
import android.widget.Button
import android.widget.EditText
import android.widget.LinearLayout
import android.widget.TextView
import java.util.concurrent.Executors
import pocketformer.PocketformerModel
import pocketformer.bundleInAssets

/** One screen: a text, a button, the answer. */
class MainActivity : Activity() {
    // One thread in the background: the model is loaded before the first question, and closed after the last.
    private val work = Executors.newSingleThreadExecutor()
    private val model by lazy { PocketformerModel.load(bundleInAssets(applicationContext)) }

    override fun onCreate(state: Bundle?) {
        super.onCreate(state)
        val text = EditText(this)
        val answer = TextView(this)
        val button = Button(this)
        text.hint = "A text"
        button.text = "Answer"
        button.setOnClickListener { ask(text.text.toString(), answer) }
        val screen = LinearLayout(this)
        screen.orientation = LinearLayout.VERTICAL
        screen.fitsSystemWindows = true
        listOf(text, button, answer).forEach { screen.addView(it) }
        setContentView(screen)
        ask("", answer)
    }

    private fun ask(text: String, shown: TextView) = work.execute {
        val told = try {
            val found = model.predict(text)
            if (text.isEmpty()) "" else "%s  %.3f".format(found.label, found.score)
        } catch (error: Exception) {
            error.message.orEmpty()
        }
        runOnUiThread { shown.text = told }
    }

    override fun onDestroy() {
        work.execute { runCatching { model.close() } } // one that never loaded fails again
        work.shutdown()
        super.onDestroy()
    }
}
