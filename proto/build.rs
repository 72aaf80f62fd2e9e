//! Compiles `aesp/v1/*.proto` without a system protoc.

use std::{env, error::Error, fs, path::PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=aesp");
    let mut files: Vec<PathBuf> =
        fs::read_dir("aesp/v1")?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|e| e == "proto"));
    files.sort();

    let mut compiler = protox::Compiler::new(["."])?;
    compiler.include_imports(true).include_source_info(false).open_files(&files)?;
    // Encoded by protox itself: a decode through prost would lose our method options.
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    // Without `connect`: clients bring their own TLS, and `RuntimeService.Connect` takes the name.
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".aesp.v1.FunctionCall.args_json")
        .bytes(".aesp.v1.FunctionResult.content_json")
        .bytes(".aesp.v1.AuditReceipt")
        .bytes(".aesp.v1.PeerRequest.payload")
        .bytes(".aesp.v1.PeerPart.payload")
        .bytes(".aesp.v1.PeerTell.payload")
        .bytes(".aesp.v1.ForwardedRequest.body")
        .bytes(".aesp.v1.ForwardedPart.data")
        .bytes(".aesp.v1.RemoteDispatch.args_json")
        .compile_fds(compiler.file_descriptor_set())?;
    Ok(())
}
