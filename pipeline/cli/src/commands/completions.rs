//! `lynxdata completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::print;
use crate::exit::{DONE, Failure};

/// Print the completion script of a shell
#[derive(Args)]
#[command(after_help = "\
Examples:
  lynxdata completions bash > ~/.local/share/bash-completion/completions/lynxdata
  lynxdata completions zsh > ~/.zfunc/_lynxdata")]
pub(crate) struct Arguments {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(arguments: &Arguments) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut crate::Arguments::command(), "lynxdata", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(DONE)
}
