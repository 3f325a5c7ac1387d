import Foundation
import XCTest

@testable import Pocketformer

final class GoldenTests: XCTestCase {
    private let bundle = Bundle.module.resourceURL!.appendingPathComponent("model")

    /// Every golden sample: text to ids, ids to logits, logits to answer.
    func testTheBundleAnswersAsItWasMeasured() throws {
        let checks = try PocketformerModel.verify(directory: bundle)
        XCTAssertEqual(checks.filter { !$0.ok }, [])
        XCTAssertEqual(checks.last?.name, "labels")
    }

    /// The same through the functions that an app calls.
    func testAModelGivesTheGoldenIdsAndLabels() throws {
        struct Sample: Decodable {
            let text: String
            let input_ids: [Int64]
            let logits: [Float]
            let label: String
        }
        let model = try PocketformerModel(directory: bundle)
        let lines = try String(contentsOf: bundle.appendingPathComponent("golden.jsonl"), encoding: .utf8)
        let samples = try lines.split(separator: "\n").map {
            try JSONDecoder().decode(Sample.self, from: Data($0.utf8))
        }
        XCTAssertFalse(samples.isEmpty)
        for sample in samples {
            XCTAssertEqual(try model.tokenize(sample.text), sample.input_ids)
            XCTAssertEqual(model.decode(sample.logits).label, sample.label)
            XCTAssertTrue(model.labels.contains(try model.predict(sample.text).label))
        }
        XCTAssertNoThrow(try model.predict(""))
    }

    func testWhatIsNoBundleIsRefusedInWords() {
        XCTAssertThrowsError(try PocketformerModel(directory: URL(fileURLWithPath: "/nowhere"))) { error in
            XCTAssertEqual((error as? PocketformerError)?.code, .usage)
            XCTAssertEqual(error.localizedDescription, "no bundle at /nowhere")
        }
    }
}
