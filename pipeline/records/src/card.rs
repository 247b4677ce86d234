//! The dataset card that makes a folder of Parquet shards a dataset that Hugging Face `datasets`
//! loads by its folder name.

/// The content of a card.
#[derive(Debug)]
pub struct Card<'a> {
    /// The title.
    pub name: &'a str,
    /// Rows in all shards.
    pub rows: u64,
    /// Glob of the shards, below the folder of the card.
    pub data_files: &'a str,
    /// Digest of everything in the shards.
    pub content: &'a str,
    /// Markdown text below the title.
    pub text: &'a str,
}

/// Returns the card as `README.md`: YAML front matter as in the Hub's dataset card specification,
/// then the text.
///
/// `configs` is always written, so that files beside the shards are never taken for data. A folder
/// with a card that has them is cached by `datasets` under the folder's name and this front matter
/// alone, not the files (seen with 5.2.0). The digest in `dataset_info` makes it read other shards
/// anew.
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
    let name = serde_json::Value::from(card.name); // a JSON string is a YAML string
    format!(
        "---\npretty_name: {name}\nsize_categories:\n- {size}\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {}\ndataset_info:\n- config_name: default\n  description: content {}\n---\n\n# {}\n\n{}\n",
        card.data_files, card.content, card.name, card.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_quotes_stays_valid_yaml() {
        let card = Card { name: "a \"b\": c", rows: 12, data_files: "data/*.parquet", content: "0ab1", text: "Hello." };
        let text = render(&card);
        assert!(text.starts_with("---\npretty_name: \"a \\\"b\\\": c\"\nsize_categories:\n- n<1K\n"), "{text}");
    }
}
