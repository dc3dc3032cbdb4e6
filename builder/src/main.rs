//! The command line `robotimage`.

use std::process::ExitCode;

fn main() -> ExitCode {
    robotimage_builder::cli::main()
}
