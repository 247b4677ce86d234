//! Settings of [`ModelConfig`] that the description of a pretrained model determines.
//!
//! GGUF metadata are first converted to the form of Hugging Face's `config.json`, so that each
//! setting is read in one place.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::gguf::Metadata;
use super::tensors::Tensors;
use crate::model::{CLIP_DEVIATION, CLIP_MEAN, ModelConfig, Sight, VitActivation};
use crate::part::Part;

/// A kind of model that can be read.
#[derive(Debug)]
pub(super) struct Kind {
    /// `model_type` of `config.json`, or `general.architecture` of GGUF.
    pub(super) name: &'static str,
    pub(super) part: Part,
    /// Defaults of absent entries of `config.json`, from the classes of transformers 5.24.
    defaults: &'static str,
    vision: VisionKind,
}

/// The facts that `config.json` leaves to the code of a vision encoder.
#[derive(Clone, Copy, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "as many settings of the model")]
struct VisionKind {
    class_token: bool,
    patch_bias: bool,
    key_bias: bool,
    first_norm: bool,
    last_norm: bool,
    /// Layers at the end that the features do not go through.
    left_out: usize,
    mean: [f32; 3],
    deviation: [f32; 3],
}

/// EVA-ViT-g in BLIP-2 and Lynx: without its last layer (depth 39 of 40) and without a norm at the
/// end.
const EVA: VisionKind = VisionKind {
    class_token: true,
    patch_bias: true,
    key_bias: false,
    first_norm: false,
    last_norm: false,
    left_out: 1,
    mean: CLIP_MEAN,
    deviation: CLIP_DEVIATION,
};

/// CLIP in LLaVA (arXiv 2304.08485): the last layer but one, without the norm at the end.
const CLIP: VisionKind = VisionKind { patch_bias: false, key_bias: true, first_norm: true, ..EVA };

/// SigLIP in PaliGemma (arXiv 2407.07726): all layers and the norm at the end, without pooling.
const SIGLIP: VisionKind = VisionKind {
    class_token: false,
    patch_bias: true,
    key_bias: true,
    first_norm: false,
    last_norm: true,
    left_out: 0,
    mean: [0.5; 3],
    deviation: [0.5; 3],
};

/// All kinds.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        name: "llama",
        part: Part::Decoder,
        defaults: r#"{"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "rms_norm_eps": 1e-6, "hidden_act": "silu"}"#,
        vision: EVA,
    },
    Kind {
        name: "qwen2",
        part: Part::Decoder,
        defaults: r#"{"hidden_size": 4096, "intermediate_size": 22016, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-6, "hidden_act": "silu"}"#,
        vision: EVA,
    },
    Kind {
        name: "clip_vision_model",
        part: Part::Vision,
        defaults: r#"{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "image_size": 224, "patch_size": 32, "hidden_act": "quick_gelu",
            "layer_norm_eps": 1e-5}"#,
        vision: CLIP,
    },
    Kind {
        name: "siglip_vision_model",
        part: Part::Vision,
        defaults: r#"{"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "image_size": 224, "patch_size": 16, "hidden_act": "gelu_pytorch_tanh",
            "layer_norm_eps": 1e-6}"#,
        vision: SIGLIP,
    },
    // EVA-ViT-g of LAVIS, for which transformers has no class: users write its config.json.
    Kind {
        name: "eva",
        part: Part::Vision,
        defaults: r#"{"hidden_size": 1408, "intermediate_size": 6144, "num_hidden_layers": 40,
            "num_attention_heads": 16, "image_size": 224, "patch_size": 14, "hidden_act": "gelu",
            "layer_norm_eps": 1e-6}"#,
        vision: EVA,
    },
];

/// A result whose error lacks the name of the file.
type Refused<T> = std::result::Result<T, String>;

/// A part in a description.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub(super) kind: &'static Kind,
    entries: Map<String, Value>,
}

impl Described {
    /// Finds the parts of a `config.json`: of the whole, and of what `text_config` and
    /// `vision_config` hold.
    pub(super) fn parts(config: &Value) -> Refused<Vec<Self>> {
        let places = [Some(config), config.get("text_config"), config.get("vision_config")];
        let mut found = Vec::new();
        let mut names = Vec::new();
        for entries in places.into_iter().flatten().filter_map(Value::as_object) {
            let Some(name) = entries.get("model_type").and_then(Value::as_str) else { continue };
            match KINDS.iter().find(|kind| kind.name == name) {
                Some(kind) => {
                    let mut entries = entries.clone();
                    for key in ["bos_token_id", "eos_token_id"] {
                        let whole = config.get(key).unwrap_or(&Value::Null);
                        entries.entry(key).or_insert_with(|| whole.clone());
                    }
                    found.push(Self { kind, entries });
                }
                None => names.push(name),
            }
        }
        let known: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        if found.is_empty() {
            Err(format!("its model_type {names:?} is not one of {}", known.join(", ")))
        } else {
            Ok(found)
        }
    }

    /// Adds an entry of another file, `preprocessor_config.json`.
    pub(super) fn add(&mut self, key: &str, value: Value) {
        self.entries.insert(key.to_owned(), value);
    }

    fn parsed<T: for<'de> Deserialize<'de>>(&self) -> Refused<T> {
        let mut all: Map<String, Value> =
            serde_json::from_str(self.kind.defaults).map_err(|error| error.to_string())?;
        all.extend(
            self.entries.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), value.clone())),
        );
        serde_json::from_value(Value::Object(all)).map_err(|error| error.to_string())
    }

    /// Puts the settings into `config`; `tied` is true if the file has no separate weights for
    /// scoring the vocabulary.
    pub(super) fn put_into(&self, config: &mut ModelConfig, tied: bool) -> Refused<()> {
        match self.kind.part {
            Part::Decoder => self.parsed::<Decoder>()?.put_into(config, tied, self.kind.name == "qwen2"),
            _ => self.parsed::<Vision>()?.put_into(config, &self.kind.vision),
        }
    }

    /// Returns the number of layers in the file.
    pub(super) fn layers(&self) -> Refused<usize> {
        self.parsed::<Layers>().map(|layers| layers.num_hidden_layers)
    }

    /// Returns the ids of the tokens that begin and end a text, if the description has them.
    pub(super) fn begin_and_end(&self) -> (Option<u32>, Option<u32>) {
        let id = |key: &str| {
            let value = self.entries.get(key)?;
            let first = value.as_array().map_or(Some(value), |ids| ids.first())?; // some models have several ends
            first.as_u64().and_then(|id| u32::try_from(id).ok())
        };
        (id("bos_token_id"), id("eos_token_id"))
    }
}

#[derive(Deserialize)]
struct Layers {
    num_hidden_layers: usize,
}

/// Entries of a decoder's `config.json`.
#[derive(Deserialize)]
struct Decoder {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    rms_norm_eps: f64,
    hidden_act: String,
    rope_theta: Option<f64>,
    /// In transformers 5 the base is here.
    rope_parameters: Option<Rope>,
    rope_scaling: Option<Rope>,
    tie_word_embeddings: Option<bool>,
    #[serde(default)]
    attention_bias: bool,
    #[serde(default)]
    mlp_bias: bool,
    #[serde(default)]
    use_sliding_window: bool,
}

#[derive(Deserialize)]
struct Rope {
    #[serde(rename = "rope_theta")]
    base: Option<f64>,
    #[serde(rename = "rope_type")]
    kind: Option<String>,
    #[serde(rename = "type")]
    old_kind: Option<String>,
}

impl Decoder {
    fn put_into(self, config: &mut ModelConfig, tied: bool, bias: bool) -> Refused<()> {
        let ropes = [&self.rope_parameters, &self.rope_scaling].into_iter().flatten();
        let kinds = ropes.filter_map(|rope| rope.kind.as_deref().or(rope.old_kind.as_deref()));
        let other_rope = kinds.into_iter().find(|kind| *kind != "default");
        let other_head =
            self.head_dim.filter(|width| width.checked_mul(self.num_attention_heads) != Some(self.hidden_size));
        let refusals = [
            (self.hidden_act != "silu").then(|| format!("hidden_act is {:?}, not \"silu\"", self.hidden_act)),
            self.attention_bias.then(|| "attention_bias is true".to_owned()),
            self.mlp_bias.then(|| "mlp_bias is true".to_owned()),
            self.use_sliding_window.then(|| "use_sliding_window is true".to_owned()),
            other_rope.map(|kind| format!("its rotary positions are scaled ({kind})")),
            other_head.map(|width| {
                format!(
                    "{} heads of width {width} do not add up to hidden_size = {}",
                    self.num_attention_heads, self.hidden_size
                )
            }),
        ];
        if let Some(refusal) = refusals.into_iter().flatten().next() {
            return Err(format!("{refusal}, which the decoder does not support"));
        }
        let in_parameters = self.rope_parameters.as_ref().and_then(|rope| rope.base);
        config.decoder_dim = self.hidden_size;
        config.decoder_depth = self.num_hidden_layers;
        config.decoder_heads = self.num_attention_heads;
        config.decoder_key_value_heads = self.num_key_value_heads.unwrap_or(self.num_attention_heads);
        config.decoder_mlp_dim = self.intermediate_size;
        config.decoder_bias = bias;
        config.tied_embeddings = self.tie_word_embeddings.unwrap_or(tied);
        config.rms_epsilon = self.rms_norm_eps;
        config.rope_base = in_parameters.or(self.rope_theta).unwrap_or(10_000.0);
        Ok(())
    }
}

/// Entries of a vision encoder's `config.json`, and of its `preprocessor_config.json`.
#[derive(Deserialize)]
struct Vision {
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    image_size: usize,
    patch_size: usize,
    hidden_act: String,
    layer_norm_eps: f64,
    image_mean: Option<[f32; 3]>,
    image_std: Option<[f32; 3]>,
}

impl Vision {
    fn put_into(self, config: &mut ModelConfig, kind: &VisionKind) -> Refused<()> {
        config.vit_activation = match self.hidden_act.as_str() {
            "gelu" => VitActivation::Gelu,
            "gelu_pytorch_tanh" => VitActivation::TanhGelu,
            "quick_gelu" => VitActivation::QuickGelu,
            other => return Err(format!("hidden_act is {other:?}, which the vision encoder does not support")),
        };
        if self.num_hidden_layers <= kind.left_out {
            return Err(format!("num_hidden_layers is {}, which is too few", self.num_hidden_layers));
        }
        config.sight = Sight::Pixels;
        config.image_size = self.image_size;
        config.patch = self.patch_size;
        config.vit_dim = self.hidden_size;
        config.vit_depth = self.num_hidden_layers - kind.left_out;
        config.vit_heads = self.num_attention_heads;
        config.vit_mlp_dim = self.intermediate_size;
        config.vit_norm_epsilon = self.layer_norm_eps;
        config.vit_class_token = kind.class_token;
        config.vit_patch_bias = kind.patch_bias;
        config.vit_key_bias = kind.key_bias;
        config.vit_first_norm = kind.first_norm;
        config.vit_last_norm = kind.last_norm;
        config.image_mean = self.image_mean.unwrap_or(kind.mean);
        config.image_deviation = self.image_std.unwrap_or(kind.deviation);
        Ok(())
    }
}

/// GGUF's keys, after the name of the architecture, those of `config.json`, and whether a file must
/// have them.
const GGUF_KEYS: &[(&str, &str, bool)] = &[
    ("embedding_length", "hidden_size", true),
    ("feed_forward_length", "intermediate_size", true),
    ("block_count", "num_hidden_layers", true),
    ("attention.head_count", "num_attention_heads", true),
    ("attention.head_count_kv", "num_key_value_heads", false),
    ("attention.key_length", "head_dim", false),
    ("attention.layer_norm_rms_epsilon", "rms_norm_eps", true),
    ("rope.freq_base", "rope_theta", false),
];

/// The tensor of a GGUF file with a factor for each rotary frequency. llama.cpp
/// (convert_hf_to_gguf.py) writes it instead of `rope.scaling.type` for the scaling of Llama 3.1.
const GGUF_FREQUENCIES: &str = "rope_freqs.weight";

/// Converts the metadata of a GGUF file to the form of `config.json`.
pub(super) fn of_gguf(metadata: &Metadata, tensors: &Tensors) -> Refused<Value> {
    let kind = metadata.text("general.architecture").ok_or("general.architecture is missing")?;
    let mut config = Map::from_iter([("model_type".to_owned(), json!(kind))]);
    for (theirs, ours, required) in GGUF_KEYS {
        let key = format!("{kind}.{theirs}");
        match metadata.json(&key) {
            Some(value) => _ = config.insert((*ours).to_owned(), value),
            None if *required => return Err(format!("{key} is missing or not a number")),
            None => {}
        }
    }
    for (theirs, ours) in [("bos", "bos_token_id"), ("eos", "eos_token_id")] {
        if let Some(value) = metadata.json(&format!("tokenizer.ggml.{theirs}_token_id")) {
            config.insert(ours.to_owned(), value);
        }
    }
    let scaling = metadata.text(&format!("{kind}.rope.scaling.type")).filter(|scaling| *scaling != "none");
    // Without a type, llama.cpp scales linearly by a factor, which older files name differently.
    let factor = |key: &str| metadata.number(&format!("{kind}.{key}")).filter(|factor| ![0.0, 1.0].contains(factor));
    let is_linear = metadata.text(&format!("{kind}.rope.scaling.type")).is_none()
        && ["rope.scaling.factor", "rope.scale_linear"].into_iter().any(|key| factor(key).is_some());
    let scaling = scaling
        .or_else(|| is_linear.then_some("linear"))
        .or_else(|| tensors.get(GGUF_FREQUENCIES).map(|_| GGUF_FREQUENCIES));
    if let Some(scaling) = scaling {
        config.insert("rope_scaling".to_owned(), json!({"rope_type": scaling}));
    }
    Ok(Value::Object(config))
}
