//! The binary `aesp`.

use std::process::ExitCode;

/// Many small allocations a call, made and freed on different threads: what glibc's allocator is slowest at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    aesp_node::cli::main(aesp_node::Build::shipped())
}
