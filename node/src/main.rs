//! The binary `aesp`.

use std::process::ExitCode;

fn main() -> ExitCode {
    aesp_node::cli::main()
}
