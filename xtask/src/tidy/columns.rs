//! Checks that lines of comments and prose have at most 100 columns; rustfmt wraps only code.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Maximum columns of a comment and of a line of prose.
const COLUMNS: usize = 100;

/// The files whose comments begin with `#`.
const HASH_FILES: &[&str] =
    &["*.toml", "*.yml", "*.yaml", "*.py", "*.sh", "*requirements.txt", ".ci/*", "*Dockerfile", "*.gitignore"];

/// Returns the lines of the repository in a folder that are too long: comments in code, and prose
/// in Markdown files.
pub(super) fn faults(root: &Path) -> Result<Vec<String>> {
    let mut faults = faults_in(root, &["*.rs"], |text| long_lines(text, true).collect())?;
    faults.extend(faults_in(root, &["*.md"], |text| long_lines(text, false).collect())?);
    faults.extend(faults_in(root, HASH_FILES, long_hash_comments)?);
    Ok(faults)
}

/// Returns the faults in the files of the repository that match a pattern of git; `long` returns
/// the numbers of the lines of a text that are too long.
fn faults_in(root: &Path, patterns: &[&str], long: impl Fn(&str) -> Vec<usize>) -> Result<Vec<String>> {
    let listed = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output =
        Command::new("git").arg("-C").arg(root).args(listed).args(patterns).output().context("cannot run git")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let mut faults = Vec::new();
    for path in String::from_utf8_lossy(&output.stdout).lines() {
        // A file that was removed and is still in the index has no lines.
        let text = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        let long = long(&text).into_iter();
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

/// Returns the numbers of the lines with a comment after `#` that are too long. Lines with a URL in
/// the comment may be longer.
fn long_hash_comments(text: &str) -> Vec<usize> {
    let is_long = |line: &str| {
        line.chars().count() > COLUMNS && hash_comment(line).is_some_and(|comment| !comment.contains("://"))
    };
    text.lines().enumerate().filter(|(_, line)| is_long(line)).map(|(index, _)| index + 1).collect()
}

/// Returns the comment of a line: what follows the first `# ` that is at the start or after a
/// space, and outside of quotes.
fn hash_comment(line: &str) -> Option<&str> {
    let mut starts = line.match_indices("# ").map(|(start, _)| start);
    let start = starts.find(|start| {
        let before = &line[..*start];
        let is_quoted = before.matches('"').count() % 2 == 1;
        !is_quoted && (before.is_empty() || before.ends_with(char::is_whitespace))
    })?;
    Some(&line[start..])
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

    #[test]
    fn comments_after_a_hash_are_counted_and_long_code_is_not() {
        let long = "word ".repeat(25);
        let toml = format!(
            "# {long}\nkey = \"{long}\"\nkey = 1 # {long}\n  # {long}\nkey = \"a # {long}\"\n# https://example.org {long}\n\
             key = \"{long}\" # why\n# short\n"
        );
        assert_eq!(long_hash_comments(&toml), [1, 3, 4, 7]);
    }
}
