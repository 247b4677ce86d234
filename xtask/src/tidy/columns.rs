//! Checks that lines of comments and prose have at most 100 columns; rustfmt wraps only code.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Maximum columns of a comment and of a line of prose.
const COLUMNS: usize = 100;

/// Returns the lines of the repository in a folder that are too long: comments in Rust files, and
/// prose in Markdown files.
pub(super) fn faults(root: &Path) -> Result<Vec<String>> {
    let listed = ["ls-files", "--cached", "--others", "--exclude-standard", "*.rs", "*.md"];
    let output = Command::new("git").arg("-C").arg(root).args(listed).output().context("cannot run git")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut faults = Vec::new();
    for path in String::from_utf8_lossy(&output.stdout).lines() {
        // A file that was removed and is still in the index has no lines.
        let text = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        let long = long_lines(&text, Path::new(path).extension() == Some("rs".as_ref()));
        faults.extend(long.map(|line| format!("{path}:{line} is longer than {COLUMNS} columns")));
    }
    Ok(faults)
}

/// Returns the numbers of the lines that are too long. Code blocks, tables and lines with a URL may
/// be longer.
fn long_lines(text: &str, is_rust: bool) -> impl Iterator<Item = usize> {
    let mut is_in_block = false;
    let lines = text.lines().enumerate().filter(move |(_, line)| {
        let prose = if is_rust {
            let comment = line.trim_start().strip_prefix("//");
            let comment = comment.map(|comment| comment.trim_start_matches(['/', '!']));
            is_in_block &= comment.is_some();
            let Some(comment) = comment else { return false };
            comment.strip_prefix(' ').unwrap_or(comment)
        } else {
            line
        };
        if prose.trim_start().starts_with("```") {
            is_in_block = !is_in_block;
        }
        let is_code = is_in_block || prose.starts_with("    ") && !is_rust;
        let may_be_long = is_code || prose.starts_with('|') || prose.contains("://");
        !may_be_long && line.chars().count() > COLUMNS
    });
    lines.map(|(index, _)| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_prose_are_counted_and_code_tables_and_urls_are_not() {
        let long = "word ".repeat(25);
        let rust = format!(
            "let a = \"{long}\";\n/// {long}\n    // {long}\n/// | {long} |\n// https://example.org {long}\n/// ```\n/// {long}\n\
             /// ```\n/// {long}\n"
        );
        assert_eq!(long_lines(&rust, true).collect::<Vec<_>>(), [2, 3, 9]);
        let page = format!(
            "{long}\n\n    {long}\n\n| {long} |\n```sh\n{long}\n```\n* {long}\n[a](https://example.org) {long}\n"
        );
        assert_eq!(long_lines(&page, false).collect::<Vec<_>>(), [1, 9]);
    }
}
