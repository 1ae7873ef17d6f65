//! `wardline-authority`: see [`wardline_authority::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    wardline_authority::cli::main()
}
