//! Parses replies: thoughts, code fences, JSON and lists.

use serde_json::Value;

/// Returns a reply without the thoughts between `<think>` and `</think>` that some models write
/// before it.
pub(crate) fn without_thoughts(text: &str) -> &str {
    text.rsplit_once("</think>").map_or(text, |(_, after)| after).trim()
}

/// Returns the JSON in a reply: the whole reply, or the part from the first bracket to the last,
/// which also covers code fences.
pub(crate) fn json_in(text: &str) -> Option<Value> {
    let text = without_thoughts(text);
    if let Ok(value) = serde_json::from_str::<Value>(text) {
        return Some(value);
    }
    let start = text.find(['[', '{'])?;
    // A list of wordings with slots also begins with braces.
    if text[start..].starts_with("{{") {
        return None;
    }
    let end = text.rfind([']', '}'])?;
    let value = serde_json::from_str::<Value>(text.get(start..=end)?).ok()?;
    (value.is_object() || value.is_array()).then_some(value)
}

/// Returns the items of a list in a reply: JSON with one list, numbered or bulleted lines, or
/// otherwise every line.
///
/// Text before the first number and after an empty line is not an item. A line without a number
/// continues the previous item. The last item of a reply that was cut off is left out.
pub(crate) fn items(text: &str, is_cut: bool) -> Vec<String> {
    if let Some(value) = json_in(text) {
        return texts_of(&value);
    }
    let text = without_thoughts(text);
    // An incomplete JSON list must not be read as another form of list.
    if text.starts_with('{') && !text.starts_with("{{") || text.starts_with("[\"") {
        return Vec::new();
    }
    let mut found: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with("```") {
            is_open = false;
        } else if let Some(item) = after_mark(line) {
            found.push(item.to_owned());
            is_open = true;
        } else if let Some(last) = found.last_mut().filter(|_| is_open) {
            last.push('\n');
            last.push_str(line);
        }
    }
    if found.is_empty() {
        found = text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect();
    }
    found = found.into_iter().flat_map(|item| split_inline(&item)).collect();
    if is_cut {
        found.pop();
    }
    found.iter().map(|item| bare(item)).filter(|item| !item.is_empty()).collect()
}

/// Returns the texts of a list, or of the only list of an object.
fn texts_of(value: &Value) -> Vec<String> {
    let list = match value {
        Value::Array(list) => Some(list),
        Value::Object(object) => object.values().find_map(Value::as_array),
        _ => None,
    };
    let text = |item: &Value| match item {
        Value::String(text) => Some(text.clone()),
        Value::Object(object) => object.values().find_map(Value::as_str).map(str::to_owned),
        _ => None,
    };
    let texts = list.into_iter().flatten().filter_map(text).map(|text| bare(after_mark(text.trim()).unwrap_or(&text)));
    texts.filter(|text| !text.is_empty()).collect()
}

/// Returns what follows the number or the mark of an item.
fn after_mark(line: &str) -> Option<&str> {
    if let Some(rest) = ["- ", "* ", "• "].iter().find_map(|mark| line.strip_prefix(mark)) {
        return Some(rest.trim());
    }
    let line = line.trim_start_matches("**");
    let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = line.len() - rest.len();
    if !(1..=3).contains(&digits) {
        return None;
    }
    let rest = rest.strip_prefix([')', '.', ':'])?.trim_start_matches("**");
    // "3.5 of them" is not an item.
    (!rest.starts_with(|c: char| c.is_ascii_digit())).then(|| rest.trim())
}

/// Returns the items of a line with several items, as in "4) one; 5) two;".
fn split_inline(item: &str) -> Vec<String> {
    let mut pieces = vec![String::new()];
    for piece in item.split_inclusive(';') {
        if pieces.len() == 1 && pieces[0].is_empty() {
            piece.clone_into(&mut pieces[0]);
        } else if let Some(rest) = after_mark(piece.trim_start()) {
            pieces.push(rest.to_owned());
        } else if let Some(last) = pieces.last_mut() {
            last.push_str(piece);
        }
    }
    pieces
}

/// Returns an item without quotes around it or a semicolon or dash at its end.
fn bare(item: &str) -> String {
    let item = item.trim().trim_end_matches(';').trim_end_matches(" -").trim_end();
    for (open, close) in [('"', '"'), ('“', '”'), ('\'', '\''), ('`', '`')] {
        let inner = item.strip_prefix(open).and_then(|item| item.strip_suffix(close));
        // If there are more quotes inside, the outer ones are part of the text.
        if let Some(inner) = inner.filter(|inner| !inner.contains([open, close])) {
            return inner.trim().to_owned();
        }
    }
    item.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_every_form_are_taken_apart() {
        let three = ["Say a.", "Say b; then c.", "Say 3.5 d."];
        for text in [
            "Sure! Here are some:\n\n4) \"Say a.\"\n5. Say b; then c.;\n6: Say 3.5 d.\n\nI hope this helps.",
            "4) Say a.; 5) Say b; then c.; 6) Say 3.5 d.;",
            "1) Say a. -\n2) Say b; then c. -\n3) Say 3.5 d.",
            "- Say a.\n* Say b; then c.\n• Say 3.5 d.",
            "Say a.\nSay b; then c.\n\nSay 3.5 d.",
            "**1.** Say a.\n**2.** Say b; then c.\n**3.** Say 3.5 d.",
            "[\"Say a.\", \"Say b; then c.\", \"Say 3.5 d.\"]",
            "```json\n{\"instructions\": [\"4) Say a.\", \"Say b; then c.\", \"Say 3.5 d.\"]}\n```",
            "[{\"text\": \"Say a.\"}, {\"text\": \"Say b; then c.\"}, {\"text\": \"Say 3.5 d.\"}, 4]",
            "<think>1) maybe\n2) not</think>\n1) Say a.\n2) Say b; then c.\n3) Say 3.5 d.",
        ] {
            assert_eq!(items(text, false), three, "{text}");
        }
    }

    #[test]
    fn an_item_may_have_several_lines_and_slots() {
        let text = "1) Question: {{ q }}\nAnswer:\n2) {{ q }} Be \"brief\".\n\nDone.";
        assert_eq!(items(text, false), ["Question: {{ q }}\nAnswer:", "{{ q }} Be \"brief\"."]);
        assert_eq!(items("{{ q }} Shortly.\n{{ q }} Now.", false), ["{{ q }} Shortly.", "{{ q }} Now."]);
    }

    #[test]
    fn of_a_cut_reply_whole_items_are_left() {
        assert_eq!(items("1) Say a.\n2) Say", true), ["Say a."]);
        assert_eq!(items("{\"instructions\": [\"Say a.\", \"Sa", true), Vec::<String>::new());
        assert_eq!(items("[\"Say a.\", \"Sa", true), Vec::<String>::new());
        assert_eq!(items("", false), Vec::<String>::new());
    }
}
