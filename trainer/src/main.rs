//! The `simsiam` command.

fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(simsiam::cli::main().code())
}
