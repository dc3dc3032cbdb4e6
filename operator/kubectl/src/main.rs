//! The program `kubectl-robotimage`, which kubectl runs as `kubectl robotimage`.

use std::process::ExitCode;

fn main() -> ExitCode {
    robotimage_kubectl::main()
}
