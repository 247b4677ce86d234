//! The dataset card. With it, Hugging Face `datasets` loads a folder of files as a dataset, by the
//! name of the folder.

/// The content of a card.
#[derive(Debug)]
pub struct Card<'a> {
    /// The title.
    pub name: &'a str,
    /// Number of rows of all files together.
    pub rows: u64,
    /// Licences as the Hub names them, such as `cc-by-4.0`.
    pub licences: &'a [String],
    /// The configurations: their names, and globs of their files relative to the folder of the
    /// card.
    pub configs: &'a [(String, Vec<String>)],
    /// The columns of all configurations, as a JSON list of the features of `datasets`; empty if
    /// the files have a schema.
    pub features: &'a str,
    /// Digest of everything in the files.
    pub content: &'a str,
    /// Markdown text below the title.
    pub text: &'a str,
}

/// Returns the content of `README.md`: YAML front matter as in the Hub's dataset card
/// specification, then the text.
///
/// `configs` is always written, so that files beside the shards are never taken for data. But if a
/// card has `configs`, `datasets` caches the folder by its name and this front matter alone,
/// whatever the files hold (seen with 5.2.0). The digest in `dataset_info` changes the front
/// matter, so that changed shards are read again.
pub fn render(card: &Card) -> String {
    let size = match card.rows {
        0..1_000 => "n<1K",
        1_000..10_000 => "1K<n<10K",
        10_000..100_000 => "10K<n<100K",
        100_000..1_000_000 => "100K<n<1M",
        1_000_000..10_000_000 => "1M<n<10M",
        10_000_000..100_000_000 => "10M<n<100M",
        100_000_000..1_000_000_000 => "100M<n<1B",
        _ => "n>1B",
    };
    // A JSON string is a YAML string.
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let mut text = format!("---\npretty_name: {}\n", quoted(card.name));
    if !card.licences.is_empty() {
        text += "license:\n";
        card.licences.iter().for_each(|licence| text += &format!("- {}\n", quoted(licence)));
    }
    text += &format!("size_categories:\n- {size}\nconfigs:\n");
    for (name, files) in card.configs {
        text += &format!("- config_name: {name}\n  data_files:\n  - split: train\n    path:");
        match files.as_slice() {
            [file] => text += &format!(" {file}\n"),
            files => text += &format!("\n    - {}\n", files.join("\n    - ")),
        }
    }
    text += "dataset_info:\n";
    for (name, _) in card.configs {
        text += &format!("- config_name: {name}\n  description: content {}\n", card.content);
        if !card.features.is_empty() {
            // JSON is also valid YAML.
            text += &format!("  features: {}\n", card.features);
        }
    }
    text + &format!("---\n\n# {}\n\n{}\n", card.name, card.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_quotes_stays_valid_yaml() {
        let configs = [("default".to_owned(), vec!["data/*.parquet".to_owned()])];
        let card = Card {
            name: "a \"b\": c",
            rows: 12,
            licences: &[],
            configs: &configs,
            features: "",
            content: "0ab1",
            text: "Hello.",
        };
        let text = render(&card);
        assert!(text.starts_with("---\npretty_name: \"a \\\"b\\\": c\"\nsize_categories:\n- n<1K\n"), "{text}");
    }
}
