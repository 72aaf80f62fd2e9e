//! Builds the loader of the FoundationDB client library, and tells the contract suite whether there is a cluster to test on.

fn main() {
    println!("cargo:rerun-if-changed=src/engine/fdb/forward.c");
    // Named for what `foundationdb-sys` asks the linker for, so that the program links, and starts, without the library.
    cc::Build::new().file("src/engine/fdb/forward.c").compile("fdb_c");
    println!("cargo:rustc-link-lib=dl");

    println!("cargo:rerun-if-env-changed=AESP_TEST_FDB_CLUSTER");
    println!("cargo:rustc-check-cfg=cfg(fdb_cluster)");
    if std::env::var_os("AESP_TEST_FDB_CLUSTER").is_some_and(|file| !file.is_empty()) {
        println!("cargo:rustc-cfg=fdb_cluster");
    }
}
