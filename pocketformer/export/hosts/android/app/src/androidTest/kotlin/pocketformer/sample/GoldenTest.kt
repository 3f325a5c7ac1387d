package pocketformer.sample

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import org.junit.Assert.assertEquals
import org.junit.Assert.assertTrue
import org.junit.Test
import org.junit.runner.RunWith
import pocketformer.PocketformerModel
import pocketformer.bundleInAssets

/** On a phone or an emulator: `./gradlew connectedAndroidTest`. */
@RunWith(AndroidJUnit4::class)
class GoldenTest {
    private val bundle = bundleInAssets(InstrumentationRegistry.getInstrumentation().targetContext)

    /** Every golden sample: text to ids, ids to logits, logits to answer. */
    @Test
    fun theBundleAnswersAsItWasMeasured() {
        val verification = PocketformerModel.verify(bundle)
        assertEquals(emptyList<String>(), verification.checks.filterNot { it.ok }.map { "${it.name}: ${it.detail}" })
        assertTrue(verification.ok)
        assertEquals("labels", verification.checks.last().name)
    }

    @Test
    fun aModelPredicts() {
        PocketformerModel.load(bundle).use { model ->
            assertTrue(model.predict("What is this ?").label in model.labels)
        }
    }
}
