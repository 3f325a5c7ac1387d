import CPocketformer
import Foundation

/// The label of a text, and its softmax probability; `index` is its place in `PocketformerModel.labels`.
public struct Answer: Equatable, Sendable {
    public let label: String
    public let index: Int
    public let score: Double
}

/// One check of `PocketformerModel.verify`.
public struct Check: Equatable, Sendable {
    public let name: String
    public let ok: Bool
    public let detail: String
}

/// What went wrong: of which kind, and what to do (`hint`, may be empty).
public struct PocketformerError: LocalizedError, Equatable, Sendable {
    /// Raw values are the exit codes that Pocketformer's commands have for them.
    public enum Code: UInt32, Sendable {
        case `internal` = 1
        case usage = 2
        case missing = 4
        case refused = 5
    }

    public let code: Code
    public let message: String
    public let hint: String

    public var errorDescription: String? { message }
    public var recoverySuggestion: String? { hint.isEmpty ? nil : hint }

    init(_ error: pf_error) {
        code = Code(rawValue: UInt32(error.code.rawValue)) ?? .internal
        message = withUnsafeBytes(of: error.message) { text(ofBytes: $0) }
        hint = withUnsafeBytes(of: error.hint) { text(ofBytes: $0) }
    }
}

/// A bundle that answers. Calls block for milliseconds: make them off the main thread. Several threads may share a model.
public final class PocketformerModel: @unchecked Sendable {
    /// In the order of the logits.
    public let labels: [String]
    /// Tokens of the longest input, special ones included.
    public let maxLength: Int

    private let model: OpaquePointer

    /// Load the bundle in `directory`; `threads` 0 means as the bundle says.
    public init(directory: URL, threads: Int = 0) throws {
        var error = pf_error()
        var options = linkedOptions()
        options.threads = Int32(clamping: threads)
        guard let model = pf_load(directory.path, &options, &error) else { throw PocketformerError(error) }
        self.model = model
        maxLength = pf_max_length(model)
        labels = (0..<pf_label_count(model)).map { String(cString: pf_label(model, $0)) }
    }

    deinit {
        pf_free(model)
    }

    /// The answer for a text.
    public func predict(_ text: String) throws -> Answer {
        decode(try logits(try tokenize(text)))
    }

    /// Text to token ids: the first step of `predict`.
    public func tokenize(_ text: String) throws -> [Int64] {
        var error = pf_error()
        var ids = [Int64](repeating: 0, count: maxLength)
        var count = 0
        var copy = text
        let code = copy.withUTF8 { bytes in
            bytes.withMemoryRebound(to: CChar.self) { characters in
                // An empty text may have no address.
                pf_tokenize(model, characters.baseAddress ?? emptyText, characters.count, &ids, &count, &error)
            }
        }
        guard code == PF_OK else { throw PocketformerError(error) }
        return Array(ids.prefix(count))
    }

    /// Token ids to logits, one a label: the second step.
    public func logits(_ ids: [Int64]) throws -> [Float] {
        var error = pf_error()
        var logits = [Float](repeating: 0, count: labels.count)
        guard pf_run(model, ids, ids.count, &logits, &error) == PF_OK else { throw PocketformerError(error) }
        return logits
    }

    /// Logits, one a label, to an answer: the last step.
    public func decode(_ logits: [Float]) -> Answer {
        precondition(logits.count == labels.count, "\(logits.count) logits for \(labels.count) labels")
        let answer = pf_decode(model, logits)
        return Answer(label: labels[answer.index], index: answer.index, score: answer.score)
    }

    /// Check the files of a bundle and replay its golden samples: all hold when each check does. It throws where that
    /// cannot be done here.
    public static func verify(directory: URL) throws -> [Check] {
        var error = pf_error()
        var options = linkedOptions()
        var checks: [Check] = []
        let code = withUnsafeMutablePointer(to: &checks) { told in
            pf_verify(directory.path, &options, { check, user in
                guard let check, let told = user?.assumingMemoryBound(to: [Check].self) else { return }
                let (name, detail) = (String(cString: check.pointee.name), String(cString: check.pointee.detail))
                told.pointee.append(Check(name: name, ok: check.pointee.ok != 0, detail: detail))
            }, told, &error)
        }
        guard code == PF_OK || code == PF_REFUSED else { throw PocketformerError(error) }
        return checks
    }
}

private let emptyText: UnsafePointer<CChar> = UnsafePointer(strdup(""))

private func linkedOptions() -> pf_options {
    var options = pf_options()
    options.onnxruntime_api = pf_linked_onnxruntime
    return options
}

private func text(ofBytes bytes: UnsafeRawBufferPointer) -> String {
    String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
}
