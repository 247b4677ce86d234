//! Names and layouts of the weights of other implementations.
//!
//! One row per weight: our path, their name, and the change that turns theirs into ours. `*` stands
//! for the number of a layer. Rows of weights that a model does not have are not used.

use crate::part::Part;

/// A row of a table.
pub(super) type Row = (&'static str, &'static str, Change);

/// The change that turns a tensor of a file into a weight of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// No change; axes of length 1 may come or go.
    Keep,
    /// `[outputs, inputs…]` to `[inputs, outputs]`: linear layers, and convolutions over patches,
    /// of which the three axes of inputs become one.
    Transpose,
    /// The n-th third of the rows of `[3 · outputs, inputs]`, transposed: q, k and v in one.
    Third(usize),
    /// Rows of q or k as llama.cpp orders them, brought back and transposed. It puts the two halves
    /// of a head, which are rotated together, next to each other, row by row.
    Interleaved,
    /// Position embeddings, one row per token; interpolated if the grid of patches differs.
    Positions,
}

/// A table of names, and the models that it is for.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) part: Part,
    /// `model_type` of Hugging Face's `config.json`, or `general.architecture` of GGUF.
    pub(super) kinds: &'static [&'static str],
    /// Whether the table is for GGUF files.
    pub(super) gguf: bool,
    /// Prefixes that all names may have.
    pub(super) prefixes: &'static [&'static str],
    /// Groups of rows. The first weight of the last group tells which prefix a file has and, where
    /// one kind has several tables, which of them.
    pub(super) rows: &'static [&'static [Row]],
}

/// All tables.
pub(super) const LAYOUTS: &[Layout] = &[
    Layout {
        part: Part::Decoder,
        kinds: &["llama", "qwen2"],
        gguf: false,
        prefixes: &["", "language_model."],
        rows: &[HUGGING_FACE_DECODER],
    },
    Layout { part: Part::Decoder, kinds: &["llama"], gguf: true, prefixes: &[""], rows: &[GGUF, GGUF_LLAMA] },
    Layout { part: Part::Decoder, kinds: &["qwen2"], gguf: true, prefixes: &[""], rows: &[GGUF, GGUF_QWEN2] },
    Layout {
        part: Part::Vision,
        kinds: &["clip_vision_model", "siglip_vision_model"],
        gguf: false,
        prefixes: &["", "vision_model.", "vision_tower.vision_model."],
        rows: &[CLIP],
    },
    Layout {
        part: Part::Vision,
        kinds: &["eva"],
        gguf: false,
        prefixes: &["", "visual_encoder."],
        rows: &[EVA, EVA_JOINED],
    },
    Layout {
        part: Part::Vision,
        kinds: &["eva"],
        gguf: false,
        prefixes: &["", "vision_encoder."],
        rows: &[EVA, EVA_APART],
    },
];

use Change::{Interleaved, Keep, Positions, Third, Transpose};

/// LLaMA, Vicuna, SmolLM2 and Qwen2 (biases).
const HUGGING_FACE_DECODER: &[Row] = &[
    ("llm.embed_tokens", "model.embed_tokens.weight", Keep),
    ("llm.layers.*.input_layernorm.weight", "model.layers.*.input_layernorm.weight", Keep),
    ("llm.layers.*.self_attn.q_proj.weight", "model.layers.*.self_attn.q_proj.weight", Transpose),
    ("llm.layers.*.self_attn.q_proj.bias", "model.layers.*.self_attn.q_proj.bias", Keep),
    ("llm.layers.*.self_attn.k_proj.weight", "model.layers.*.self_attn.k_proj.weight", Transpose),
    ("llm.layers.*.self_attn.k_proj.bias", "model.layers.*.self_attn.k_proj.bias", Keep),
    ("llm.layers.*.self_attn.v_proj.weight", "model.layers.*.self_attn.v_proj.weight", Transpose),
    ("llm.layers.*.self_attn.v_proj.bias", "model.layers.*.self_attn.v_proj.bias", Keep),
    ("llm.layers.*.self_attn.o_proj.weight", "model.layers.*.self_attn.o_proj.weight", Transpose),
    ("llm.layers.*.post_attention_layernorm.weight", "model.layers.*.post_attention_layernorm.weight", Keep),
    ("llm.layers.*.mlp.gate.weight", "model.layers.*.mlp.gate_proj.weight", Transpose),
    ("llm.layers.*.mlp.up.weight", "model.layers.*.mlp.up_proj.weight", Transpose),
    ("llm.layers.*.mlp.down.weight", "model.layers.*.mlp.down_proj.weight", Transpose),
    ("llm.norm.weight", "model.norm.weight", Keep),
    ("llm.lm_head.weight", "lm_head.weight", Transpose),
];

/// llama.cpp's names.
const GGUF: &[Row] = &[
    ("llm.embed_tokens", "token_embd.weight", Keep),
    ("llm.layers.*.input_layernorm.weight", "blk.*.attn_norm.weight", Keep),
    ("llm.layers.*.self_attn.q_proj.bias", "blk.*.attn_q.bias", Keep),
    ("llm.layers.*.self_attn.k_proj.bias", "blk.*.attn_k.bias", Keep),
    ("llm.layers.*.self_attn.v_proj.weight", "blk.*.attn_v.weight", Transpose),
    ("llm.layers.*.self_attn.v_proj.bias", "blk.*.attn_v.bias", Keep),
    ("llm.layers.*.self_attn.o_proj.weight", "blk.*.attn_output.weight", Transpose),
    ("llm.layers.*.post_attention_layernorm.weight", "blk.*.ffn_norm.weight", Keep),
    ("llm.layers.*.mlp.gate.weight", "blk.*.ffn_gate.weight", Transpose),
    ("llm.layers.*.mlp.up.weight", "blk.*.ffn_up.weight", Transpose),
    ("llm.layers.*.mlp.down.weight", "blk.*.ffn_down.weight", Transpose),
    ("llm.norm.weight", "output_norm.weight", Keep),
    ("llm.lm_head.weight", "output.weight", Transpose),
];

/// llama.cpp reorders the rows of q and k for its own rotation in LLaMA, but not in Qwen2.
const GGUF_LLAMA: &[Row] = &[
    ("llm.layers.*.self_attn.q_proj.weight", "blk.*.attn_q.weight", Interleaved),
    ("llm.layers.*.self_attn.k_proj.weight", "blk.*.attn_k.weight", Interleaved),
];
const GGUF_QWEN2: &[Row] = &[
    ("llm.layers.*.self_attn.q_proj.weight", "blk.*.attn_q.weight", Transpose),
    ("llm.layers.*.self_attn.k_proj.weight", "blk.*.attn_k.weight", Transpose),
];

/// CLIP (with a class token and a first norm) and SigLIP (with a bias on patches). The misspelt
/// `pre_layrnorm` is CLIP's name.
const CLIP: &[Row] = &[
    ("vision_encoder.patch_embed.weight", "embeddings.patch_embedding.weight", Transpose),
    ("vision_encoder.patch_embed.bias", "embeddings.patch_embedding.bias", Keep),
    ("vision_encoder.cls_token", "embeddings.class_embedding", Keep),
    ("vision_encoder.pos_embed", "embeddings.position_embedding.weight", Positions),
    ("vision_encoder.first_norm.weight", "pre_layrnorm.weight", Keep),
    ("vision_encoder.first_norm.bias", "pre_layrnorm.bias", Keep),
    ("vision_encoder.blocks.*.norm1.weight", "encoder.layers.*.layer_norm1.weight", Keep),
    ("vision_encoder.blocks.*.norm1.bias", "encoder.layers.*.layer_norm1.bias", Keep),
    ("vision_encoder.blocks.*.attn.q_proj.weight", "encoder.layers.*.self_attn.q_proj.weight", Transpose),
    ("vision_encoder.blocks.*.attn.q_proj.bias", "encoder.layers.*.self_attn.q_proj.bias", Keep),
    ("vision_encoder.blocks.*.attn.k_proj.weight", "encoder.layers.*.self_attn.k_proj.weight", Transpose),
    ("vision_encoder.blocks.*.attn.k_proj.bias", "encoder.layers.*.self_attn.k_proj.bias", Keep),
    ("vision_encoder.blocks.*.attn.v_proj.weight", "encoder.layers.*.self_attn.v_proj.weight", Transpose),
    ("vision_encoder.blocks.*.attn.v_proj.bias", "encoder.layers.*.self_attn.v_proj.bias", Keep),
    ("vision_encoder.blocks.*.attn.proj.weight", "encoder.layers.*.self_attn.out_proj.weight", Transpose),
    ("vision_encoder.blocks.*.attn.proj.bias", "encoder.layers.*.self_attn.out_proj.bias", Keep),
    ("vision_encoder.blocks.*.norm2.weight", "encoder.layers.*.layer_norm2.weight", Keep),
    ("vision_encoder.blocks.*.norm2.bias", "encoder.layers.*.layer_norm2.bias", Keep),
    ("vision_encoder.blocks.*.fc1.weight", "encoder.layers.*.mlp.fc1.weight", Transpose),
    ("vision_encoder.blocks.*.fc1.bias", "encoder.layers.*.mlp.fc1.bias", Keep),
    ("vision_encoder.blocks.*.fc2.weight", "encoder.layers.*.mlp.fc2.weight", Transpose),
    ("vision_encoder.blocks.*.fc2.bias", "encoder.layers.*.mlp.fc2.bias", Keep),
    ("vision_encoder.last_norm.weight", "post_layernorm.weight", Keep),
    ("vision_encoder.last_norm.bias", "post_layernorm.bias", Keep),
];

/// q, k and v of EVA-ViT-g in one matrix, as in the code of its authors and in LAVIS (BLIP-2).
const EVA_JOINED: &[Row] = &[
    ("vision_encoder.blocks.*.attn.q_proj.weight", "blocks.*.attn.qkv.weight", Third(0)),
    ("vision_encoder.blocks.*.attn.k_proj.weight", "blocks.*.attn.qkv.weight", Third(1)),
    ("vision_encoder.blocks.*.attn.v_proj.weight", "blocks.*.attn.qkv.weight", Third(2)),
    ("vision_encoder.blocks.*.attn.q_proj.bias", "blocks.*.attn.q_bias", Keep),
    ("vision_encoder.blocks.*.attn.v_proj.bias", "blocks.*.attn.v_bias", Keep),
];

/// q, k and v of EVA-ViT-g in separate matrices, as in Lynx.
const EVA_APART: &[Row] = &[
    ("vision_encoder.blocks.*.attn.q_proj.weight", "blocks.*.attn.q_proj.weight", Transpose),
    ("vision_encoder.blocks.*.attn.k_proj.weight", "blocks.*.attn.k_proj.weight", Transpose),
    ("vision_encoder.blocks.*.attn.v_proj.weight", "blocks.*.attn.v_proj.weight", Transpose),
    ("vision_encoder.blocks.*.attn.q_proj.bias", "blocks.*.attn.q_proj.bias", Keep),
    ("vision_encoder.blocks.*.attn.v_proj.bias", "blocks.*.attn.v_proj.bias", Keep),
];

/// The names that both have in common.
const EVA: &[Row] = &[
    ("vision_encoder.patch_embed.weight", "patch_embed.proj.weight", Transpose),
    ("vision_encoder.patch_embed.bias", "patch_embed.proj.bias", Keep),
    ("vision_encoder.cls_token", "cls_token", Keep),
    ("vision_encoder.pos_embed", "pos_embed", Positions),
    ("vision_encoder.blocks.*.norm1.weight", "blocks.*.norm1.weight", Keep),
    ("vision_encoder.blocks.*.norm1.bias", "blocks.*.norm1.bias", Keep),
    ("vision_encoder.blocks.*.attn.proj.weight", "blocks.*.attn.proj.weight", Transpose),
    ("vision_encoder.blocks.*.attn.proj.bias", "blocks.*.attn.proj.bias", Keep),
    ("vision_encoder.blocks.*.norm2.weight", "blocks.*.norm2.weight", Keep),
    ("vision_encoder.blocks.*.norm2.bias", "blocks.*.norm2.bias", Keep),
    ("vision_encoder.blocks.*.fc1.weight", "blocks.*.mlp.fc1.weight", Transpose),
    ("vision_encoder.blocks.*.fc1.bias", "blocks.*.mlp.fc1.bias", Keep),
    ("vision_encoder.blocks.*.fc2.weight", "blocks.*.mlp.fc2.weight", Transpose),
    ("vision_encoder.blocks.*.fc2.bias", "blocks.*.mlp.fc2.bias", Keep),
];

impl Layout {
    /// Returns the row of a path, and the number of its layer, empty outside layers.
    pub(super) fn row<'a>(&self, path: &'a str) -> Option<(&'static Row, &'a str)> {
        self.rows.iter().flat_map(|rows| rows.iter()).find_map(|row| {
            let Some((before, after)) = row.0.split_once('*') else {
                return (row.0 == path).then_some((row, ""));
            };
            let layer = path.strip_prefix(before)?.strip_suffix(after)?;
            let is_number = !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then_some((row, layer))
        })
    }

    /// Returns the name, without a prefix, of the weight with a path; `None` if there is no row for
    /// it.
    pub(super) fn name(&self, path: &str) -> Option<String> {
        self.row(path).map(|(row, layer)| row.1.replacen('*', layer, 1))
    }

    /// Returns a name that all files with this layout have.
    pub(super) fn sign(&self) -> String {
        self.rows[self.rows.len() - 1][0].1.replacen('*', "0", 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_by_its_path() {
        let layout = &LAYOUTS[0];
        assert_eq!(layout.name("llm.layers.12.mlp.up.weight").unwrap(), "model.layers.12.mlp.up_proj.weight");
        assert_eq!(layout.name("llm.norm.weight").unwrap(), "model.norm.weight");
        assert_eq!(layout.name("llm.layers.0.output_adapter.up.weight"), None);
    }

    #[test]
    fn no_path_stands_in_a_table_twice() {
        for layout in LAYOUTS {
            let all: Vec<&str> = layout.rows.iter().flat_map(|rows| rows.iter()).map(|row| row.0).collect();
            let mut once = all.clone();
            once.sort_unstable();
            once.dedup();
            assert_eq!(once.len(), all.len(), "{layout:?}");
        }
    }
}
