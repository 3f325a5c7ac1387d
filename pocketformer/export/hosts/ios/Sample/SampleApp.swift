import Pocketformer
import SwiftUI

/// One screen: a text, a button, the answer. The bundle is the folder "model" among the app's resources.
@main
struct SampleApp: App {
    var body: some Scene {
        WindowGroup { AnswerScreen() }
    }
}

/// Loads the model before the first question and answers off the main thread.
actor Answering {
    private var model: PocketformerModel?

    func answer(_ text: String) throws -> Answer {
        let bundle = Bundle.main.bundleURL.appendingPathComponent("model")
        let model = try self.model ?? PocketformerModel(directory: bundle)
        self.model = model
        return try model.predict(text)
    }
}

struct AnswerScreen: View {
    @State private var text = ""
    @State private var shown = ""
    @State private var answering = Answering()

    var body: some View {
        VStack(spacing: 16) {
            TextField("A text", text: $text).textFieldStyle(.roundedBorder)
            Button("Answer") { Task { await ask() } }
            Text(shown)
        }
        .padding()
    }

    private func ask() async {
        do {
            let answer = try await answering.answer(text)
            shown = "\(answer.label)  \(answer.score.formatted(.number.precision(.fractionLength(3))))"
        } catch {
            shown = error.localizedDescription
        }
    }
}
