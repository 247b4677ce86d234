//! Paths that begin with `~`, which shells expand in some places and not in others.

use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Replaces a leading `~` of a path by the home folder of the user.
///
/// # Errors
/// If the user has no home folder, or the path begins with the home folder of another user, as in
/// `~ann/list.csv`.
pub fn expanded(path: &Path) -> Result<PathBuf> {
    let mut components = path.components();
    let Some(Component::Normal(first)) = components.next() else { return Ok(path.to_owned()) };
    if !first.as_encoded_bytes().starts_with(b"~") {
        return Ok(path.to_owned());
    }
    let shown = path.display();
    if first != "~" {
        bail!(
            "{shown} names the home folder of another user, which is not supported; write the whole path, or ./{shown} for a file of that name"
        );
    }
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    let home = home.with_context(|| format!("{shown} begins with ~, but HOME is not set"))?;
    let rest = components.as_path();
    Ok(if rest == Path::new("") { home } else { home.join(rest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_leading_tilde_is_the_home_folder() {
        let home = std::env::home_dir().unwrap();
        for (path, expected) in [("~", home.clone()), ("~/", home.clone()), ("~/a/b.csv", home.join("a/b.csv"))] {
            assert_eq!(expanded(Path::new(path)).unwrap(), expected, "{path}");
        }
        for same in ["", ".", "a.csv", "./~", "./~ann/a.csv", "a/~/b", "a~", "/~/a", "s3://bucket/~/run"] {
            assert_eq!(expanded(Path::new(same)).unwrap(), Path::new(same));
        }
        for other in ["~ann", "~ann/list.csv", "~1"] {
            let error = expanded(Path::new(other)).unwrap_err().to_string();
            assert!(error.contains(other) && error.contains(&format!("./{other}")), "{error}");
        }
    }
}
