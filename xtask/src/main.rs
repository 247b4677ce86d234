//! Repository chores: `cargo run -p xtask -- tidy` checks imports, folders, recipes and line
//! widths.

mod tidy;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["tidy"] => tidy::run(),
        _ => bail!("usage: cargo run -p xtask -- tidy"),
    }
}
