//! The command: see `cert_autofetch::command`.

fn main() -> std::process::ExitCode {
    cert_autofetch::command::main(std::env::args_os())
}
