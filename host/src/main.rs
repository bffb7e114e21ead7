//! The binary: hands the command line to [`witgate::cli`], and its exit code to the system.

fn main() -> std::process::ExitCode {
    witgate::cli::main()
}
