//! Tells the tests whether they can start FoundationDB servers of their own.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=AESP_TEST_FDB_BIN");
    println!("cargo:rustc-check-cfg=cfg(fdb_server)");
    if std::env::var_os("AESP_TEST_FDB_BIN").is_some_and(|folder| !folder.is_empty()) {
        println!("cargo:rustc-cfg=fdb_server");
    }
}
