import Foundation

// The host's program: answers BUNDLE TEXTS.jsonl, compiled into one module with PocketformerModel.swift.

struct Question: Decodable {
    let text: String
}

struct Row: Encodable {
    let input_ids: [Int64]
    let logits: [Float]
    let label: String
    let score: Double
}

let words = CommandLine.arguments
let model = try PocketformerModel(directory: URL(fileURLWithPath: words[1]))
for line in try String(contentsOf: URL(fileURLWithPath: words[2]), encoding: .utf8).split(separator: "\n") {
    let text = try JSONDecoder().decode(Question.self, from: Data(line.utf8)).text
    let ids = try model.tokenize(text)
    let logits = try model.logits(ids)
    let answer = try model.predict(text)
    precondition(answer == model.decode(logits))
    let row = Row(input_ids: ids, logits: logits, label: answer.label, score: answer.score)
    print(String(decoding: try JSONEncoder().encode(row), as: UTF8.self))
}
