package pocketformer

import java.io.File

/** The host's program: verify BUNDLE, or answers BUNDLE TEXTS; then libonnxruntime, and a public key and libcrypto where wanted.
 *
 * A line of TEXTS is a text's UTF-16 in hexadecimal, four digits a unit, so that half a surrogate pair can be there. */
fun main(words: Array<String>) {
    val (verb, bundle, texts, library) = words
    val options = Options(
        onnxruntime = library,
        publicKeyPem = words.getOrNull(4)?.let { File(it).readText() },
        libcrypto = words.getOrNull(5),
    )
    try {
        if (verb == "verify") {
            val verification = PocketformerModel.verify(File(bundle), options)
            verification.checks.forEach { println("${if (it.ok) "ok" else "FAIL"}\t${it.name}\t${it.detail}") }
            if (!verification.ok) System.exit(5)
        } else {
            PocketformerModel.load(File(bundle), options).use { model -> answer(model, File(texts)) }
        }
    } catch (error: PocketformerException) {
        println("${error.code}\t${error.message}\t${error.hint}")
        System.exit(error.code.number)
    }
}

private fun answer(model: PocketformerModel, texts: File) = texts.forEachLine { line ->
    val text = line.chunked(4) { Integer.parseInt(it.toString(), 16).toChar() }.joinToString("")
    val ids = model.tokenize(text)
    val logits = model.logits(ids)
    val answer = model.predict(text)
    check(answer == model.decode(logits))
    val label = answer.label.map { "\\u%04x".format(it.code) }.joinToString("")
    println(
        "{\"input_ids\": ${ids.toList()}, \"logits\": ${logits.toList()}, \"label\": \"$label\", " +
            "\"score\": ${answer.score}, \"max_length\": ${model.maxLength}}",
    )
}
