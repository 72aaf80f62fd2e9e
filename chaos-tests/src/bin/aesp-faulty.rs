//! A node that breaks on purpose. Never for production; see the crate's module `faulty`.

use std::process::ExitCode;

/// The allocator of the binary that is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    aesp_chaos_tests::faulty::main()
}
