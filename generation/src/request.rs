//! Requests to a model, and its replies.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Error, Result};

/// First bytes and media types of images that servers accept.
const PICTURES: &[(&[u8], &str)] = &[
    (&[0xff, 0xd8, 0xff], "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"RIFF", "image/webp"),
];

/// The role of the author of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The user's turn.
    User,
    /// The model's turn, as in an example.
    Assistant,
}

/// A piece of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// Text.
    Text(String),
    /// An image as a data URL; see [`data_url`].
    Picture(String),
}

/// One message of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The role of its author.
    pub role: Role,
    /// The texts and images of the message.
    pub parts: Vec<Part>,
}

/// The JSON that a reply should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    /// Its name, of letters, digits and `_`.
    pub name: &'static str,
    /// JSON Schema; for OpenAI's strict mode all properties are required and no others allowed.
    pub schema: Value,
}

/// A request to a model, independent of the server.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The messages in order.
    pub messages: Vec<Message>,
    /// The maximum length of the reply in tokens; a longer one is cut.
    pub max_tokens: u32,
    /// The sampling temperature; 0 takes the most likely token.
    pub temperature: f64,
    /// A seed that makes requests with equal messages different, and also their replies if the
    /// server uses it for sampling.
    pub seed: Option<u64>,
    /// The form of the reply. For servers without structured replies it is left out.
    pub schema: Option<Schema>,
}

/// The BLAKE3 hash of a request and its model: the key of a stored reply, and the provenance of
/// texts made from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest(pub(crate) [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", blake3::Hash::from_bytes(self.0).to_hex())
    }
}

impl Message {
    /// Returns a message with one text.
    pub fn text(role: Role, text: impl Into<String>) -> Message {
        Message { role, parts: vec![Part::Text(text.into())] }
    }

    fn json(&self) -> Value {
        let content = match self.parts.as_slice() {
            [Part::Text(text)] => json!(text),
            parts => parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => json!({"type": "text", "text": text}),
                    Part::Picture(url) => json!({"type": "image_url", "image_url": {"url": url}}),
                })
                .collect(),
        };
        json!({"role": self.role, "content": content})
    }
}

impl Request {
    /// Returns the digest of this request to a model. The server is not part of it, so stored
    /// replies are valid wherever the model runs.
    pub fn digest(&self, model: &str) -> Digest {
        Digest(*blake3::hash(self.neutral(model).to_string().as_bytes()).as_bytes())
    }

    /// Returns the number of images.
    pub fn pictures(&self) -> u64 {
        let parts = self.messages.iter().flat_map(|message| &message.parts);
        parts.filter(|part| matches!(part, Part::Picture(_))).count() as u64
    }

    /// Returns the length of all texts and of the schema in bytes of UTF-8.
    pub fn text_bytes(&self) -> u64 {
        let parts = self.messages.iter().flat_map(|message| &message.parts);
        let schema = self.schema.as_ref().map_or(0, |schema| schema.schema.to_string().len());
        let texts: usize = parts.map(|part| if let Part::Text(text) = part { text.len() } else { 0 }).sum();
        (texts + schema) as u64
    }

    /// Returns the request in the form that is hashed and stored. Images are replaced by their
    /// digests, which identify them and are short.
    pub(crate) fn neutral(&self, model: &str) -> Value {
        let mut messages: Vec<Value> = Vec::new();
        for message in &self.messages {
            let named = |part: &Part| match part {
                Part::Text(text) => Part::Text(text.clone()),
                Part::Picture(url) => Part::Picture(format!("blake3:{}", blake3::hash(url.as_bytes()).to_hex())),
            };
            messages.push(Message { role: message.role, parts: message.parts.iter().map(named).collect() }.json());
        }
        json!({
            "model": model,
            "messages": messages,
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "schema": self.schema.as_ref().map(|schema| &schema.schema),
        })
    }

    /// Returns the body in the format of OpenAI's chat completions.
    pub(crate) fn body(&self, model: &str, dialect: Dialect) -> Value {
        let mut body = json!({
            "model": model,
            "messages": self.messages.iter().map(Message::json).collect::<Vec<_>>(),
            "temperature": self.temperature,
        });
        let longest = if dialect.completion_tokens { "max_completion_tokens" } else { "max_tokens" };
        body[longest] = json!(self.max_tokens);
        if let Some(seed) = self.seed {
            body["seed"] = json!(seed);
        }
        if let Some(schema) = self.schema.as_ref().filter(|_| !dialect.plain) {
            let schema = json!({"name": schema.name, "strict": true, "schema": schema.schema});
            body["response_format"] = json!({"type": "json_schema", "json_schema": schema});
        }
        body
    }
}

/// Features in which a server turned out to differ from the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Dialect {
    /// Replies are plain text, because the server rejects `response_format`.
    pub(crate) plain: bool,
    /// The limit of tokens in the reply is called `max_completion_tokens`.
    pub(crate) completion_tokens: bool,
}

/// The reason why a reply ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finish {
    /// The model ended the reply.
    Stop,
    /// The token limit cut the reply.
    Length,
    /// Another reason, by the name that the server gives.
    #[serde(untagged)]
    Other(String),
}

/// A model's reply.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The text; empty if the model refused.
    pub text: String,
    /// The reason why it ends there.
    pub finish: Finish,
    /// The model's refusal, if the server reports refusals separately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// The model name from the server, which may be more exact than the requested name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Reply {
    /// Returns whether it ended because of the token limit.
    pub fn is_cut(&self) -> bool {
        self.finish == Finish::Length
    }

    /// Returns whether a content filter of the server ended it or left something out.
    pub fn is_filtered(&self) -> bool {
        matches!(&self.finish, Finish::Other(reason) if reason == "content_filter")
    }
}

/// The number of tokens of a request and its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    pub input: u64,
    /// Tokens of the reply.
    pub output: u64,
}

/// Returns an image file as a data URL.
///
/// # Errors
/// If it cannot be read, or is not JPEG, PNG, GIF or WebP, the formats that servers accept.
pub fn data_url(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path)
        .map_err(|error| Error::Input { why: format!("cannot read {}: {error}", path.display()) })?;
    let Some((_, name)) = PICTURES.iter().find(|(magic, _)| bytes.starts_with(magic)) else {
        let why = format!("{} is not a JPEG, PNG, GIF or WebP image, the formats that servers accept", path.display());
        return Err(Error::Input { why });
    };
    Ok(format!("data:{name};base64,{}", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(parts: Vec<Part>) -> Request {
        let messages = vec![Message { role: Role::User, parts }];
        Request { messages, max_tokens: 5, temperature: 0.0, seed: None, schema: None }
    }

    #[test]
    fn the_digest_covers_all_that_changes_the_reply() {
        let text = request(vec![Part::Text("a".to_owned())]);
        let digest = text.digest("m");
        assert_eq!(digest, text.clone().digest("m"));
        let picture = request(vec![Part::Text("a".to_owned()), Part::Picture("data:image/png;base64,AAAA".to_owned())]);
        let others = [
            text.digest("n"),
            request(vec![Part::Text("b".to_owned())]).digest("m"),
            Request { max_tokens: 6, ..text.clone() }.digest("m"),
            Request { temperature: 1.0, ..text.clone() }.digest("m"),
            Request { seed: Some(0), ..text.clone() }.digest("m"),
            Request { schema: Some(Schema { name: "s", schema: json!({}) }), ..text.clone() }.digest("m"),
            picture.digest("m"),
        ];
        assert!(others.iter().all(|other| *other != digest));
        assert!(!picture.neutral("m").to_string().contains("AAAA"), "pictures are named, not kept");
    }

    #[test]
    fn bodies_are_those_of_chat_completions() {
        let schema = Some(Schema { name: "list", schema: json!({"type": "array"}) });
        let request = Request { seed: Some(3), schema, ..request(vec![Part::Text("a".to_owned())]) };
        let body = request.body("m", Dialect::default());
        assert_eq!(body["messages"], json!([{"role": "user", "content": "a"}]));
        assert_eq!((&body["max_tokens"], &body["seed"]), (&json!(5), &json!(3)));
        assert_eq!(body["response_format"]["json_schema"]["strict"], true);
        let body = request.body("m", Dialect { plain: true, completion_tokens: true });
        assert_eq!((&body["max_completion_tokens"], body.get("max_tokens")), (&json!(5), None));
        assert!(body.get("response_format").is_none());
    }

    #[test]
    fn finishes_are_read_as_servers_write_them() {
        let read = |text: &str| serde_json::from_value::<Finish>(json!(text)).unwrap();
        assert_eq!((read("stop"), read("length")), (Finish::Stop, Finish::Length));
        assert_eq!(read("content_filter"), Finish::Other("content_filter".to_owned()));
    }
}
