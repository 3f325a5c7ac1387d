// swift-tools-version:5.9
import PackageDescription

// On Apple's platforms onnxruntime comes as a package; on Linux, where the tests run too, the linker finds the library.
#if os(Linux)
let packages: [Package.Dependency] = []
let engine: [Target.Dependency] = []
let linked: [LinkerSetting] = [.linkedLibrary("onnxruntime")]
#else
let packages: [Package.Dependency] = [
    .package(url: "https://github.com/microsoft/onnxruntime-swift-package-manager", from: "1.20.0"),
]
let engine: [Target.Dependency] = [
    .product(name: "onnxruntime", package: "onnxruntime-swift-package-manager"),
]
let linked: [LinkerSetting] = []
#endif

let package = Package(
    name: "Pocketformer",
    platforms: [.iOS(.v15), .macOS(.v12)],
    products: [.library(name: "Pocketformer", targets: ["Pocketformer"])],
    dependencies: packages,
    targets: [
        // The C host: one header, one file, and the onnxruntime that is linked in.
        .target(name: "CPocketformer", dependencies: engine, publicHeadersPath: ".", linkerSettings: linked),
        .target(name: "Pocketformer", dependencies: ["CPocketformer"]),
        .testTarget(name: "PocketformerTests", dependencies: ["Pocketformer"], resources: [.copy("model")]),
    ]
)
