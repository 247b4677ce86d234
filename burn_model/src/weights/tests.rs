//! Pretrained models against what transformers computes from them; see `fixtures/SOURCES.tsv`.

use std::fs;
use std::path::PathBuf;

use burn::tensor::Int;
use burn::tensor::activation::log_softmax;
use proptest::prelude::*;

use super::*;
use crate::device::DeviceName;
use crate::machine;
use crate::model::{Layout as Places, Sight};
use crate::saved::SavedModel;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/pretrained").join(name)
}

fn open(name: &str) -> Pretrained {
    Pretrained::open(&fixture(name)).unwrap()
}

/// What the original libraries compute.
fn expected(name: &str) -> (Vec<usize>, Vec<f32>) {
    let content = fs::read(fixture("expected.safetensors")).unwrap();
    let file = ::safetensors::SafeTensors::deserialize(&content).unwrap();
    let tensor = file.tensor(name).unwrap();
    let numbers = tensor.data().as_chunks::<4>().0;
    let is_float = tensor.dtype() == ::safetensors::Dtype::F32;
    let number = |four: &[u8; 4]| if is_float { f32::from_le_bytes(*four) } else { i32::from_le_bytes(*four) as f32 };
    (tensor.shape().to_vec(), numbers.iter().map(number).collect())
}

fn expected_ids(name: &str) -> Vec<u32> {
    expected(name).1.into_iter().map(|id| id as u32).collect()
}

fn furthest(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max)
}

/// A decoder only: without adapters, after one vision token that no token attends to.
fn decoder_config(pretrained: &Pretrained) -> ModelConfig {
    let mut config = ModelConfig { adapter_every: 0, latents: 1, ..Default::default() };
    pretrained.configure(Part::Decoder, &mut config).unwrap();
    config
}

fn decoder(pretrained: &Pretrained) -> (Lynx, LoadReport) {
    let config = decoder_config(pretrained);
    let parts = [(pretrained, Part::Decoder)];
    let (model, mut reports) = build(&parts, &config, pretrained.vocabulary().unwrap(), 3, 0, &Device::flex()).unwrap();
    (model, reports.remove(0))
}

/// The scores after each token, `[tokens, vocabulary]`.
fn scores(model: &Lynx, config: &ModelConfig, ids: &[u32]) -> Tensor<2> {
    let device = Device::flex();
    let positions = vec![std::iter::once(0).chain(0..ids.len()).collect::<Vec<usize>>()];
    let real = vec![std::iter::once(false).chain(ids.iter().map(|_| true)).collect::<Vec<bool>>()];
    let layout = Places::new(config, &positions, &real, &device);
    let ids: Vec<i64> = ids.iter().map(|id| i64::from(*id)).collect();
    let ids: Tensor<2, Int> = Tensor::<1, Int>::from_data(ids.as_slice(), &device).unsqueeze();
    let vision = Tensor::zeros([1, 1, config.decoder_dim], &device);
    model.logits(&vision, ids, &layout).squeeze_dim(0)
}

#[test]
fn decoders_score_as_transformers_does() {
    for (file, name, unused) in [
        ("llama", "llama", vec![]),
        ("smollm", "smollm", vec![]),
        ("qwen2", "qwen2", vec![]),
        ("smollm.gguf", "smollm_gguf", vec![]),
        ("qwen2.gguf", "qwen2_gguf", Vec::<String>::new()),
    ] {
        let pretrained = open(file);
        let (model, report) = decoder(&pretrained);
        assert_eq!(report.unused, unused, "{file}");
        assert_eq!(report.numbers, model.num_params() - other_weights(&pretrained), "{file}");
        let ids = expected_ids(&format!("{}.ids", name.trim_end_matches("_gguf")));
        let got = scores(&model, &decoder_config(&pretrained), &ids).into_data().try_into_vec::<f32>().unwrap();
        let off = furthest(&got, &expected(&format!("{name}.logits")).1);
        assert!(off < 1e-5, "{file}: off by {off}");
    }
}

/// Weights of the projection, which no decoder brings.
fn other_weights(pretrained: &Pretrained) -> usize {
    let width = decoder_config(pretrained).decoder_dim;
    3 * width + width + 2 * width
}

#[test]
fn a_description_determines_the_settings() {
    let config = decoder_config(&open("smollm"));
    let sizes = (config.decoder_dim, config.decoder_depth, config.decoder_heads, config.decoder_key_value_heads);
    assert_eq!(sizes, (32, 2, 4, 2));
    assert_eq!((config.rope_base, config.rms_epsilon), (100_000.0, 1e-5));
    assert_eq!((config.tied_embeddings, config.decoder_bias), (true, false));
    assert_eq!(decoder_config(&open("smollm.gguf")), config);
    let qwen2 = decoder_config(&open("qwen2"));
    assert_eq!((qwen2.tied_embeddings, qwen2.decoder_bias, qwen2.rope_base), (false, true, 1e6));
    assert_eq!(decoder_config(&open("qwen2.gguf")), qwen2);
    assert!(!open("qwen2").has(Part::Vision));
    let mut config = ModelConfig::default();
    open("clip").configure(Part::Vision, &mut config).unwrap();
    assert_eq!((config.sight, config.vit_depth, config.image_mean), (Sight::Pixels, 2, [0.5, 0.4, 0.3]));
}

fn vision(name: &str, image_size: usize) -> (Vec<f32>, LoadReport) {
    let pretrained = open(name);
    let mut config = ModelConfig::default();
    pretrained.configure(Part::Vision, &mut config).unwrap();
    config.image_size = image_size;
    let device = Device::flex();
    let model = Lynx::new(&config, 300, 0, 0, &device).unwrap();
    let (model, report) = pretrained.load_into(model, Part::Vision).unwrap();
    let pixels = if image_size == 32 { "pixels" } else { "pixels_48" };
    let side = image_size / 8;
    let pixels: Tensor<4> =
        Tensor::from_data(TensorData::new(expected(pixels).1, [1, 3, image_size, image_size]), &device);
    let patches = pixels.reshape([1, 3, side, 8, side, 8]).permute([0, 2, 4, 1, 3, 5]);
    let features = model.vision_encoder().unwrap().forward(patches.reshape([1, side * side, 192]));
    (features.into_data().try_into_vec().unwrap(), report)
}

#[test]
fn vision_encoders_see_as_the_originals_do() {
    for (name, size, golden) in [
        ("clip", 32, "clip.features"),
        ("siglip", 32, "siglip.features"),
        ("eva", 32, "eva.features"),
        ("clip", 48, "clip.features_48"),
        ("siglip", 48, "siglip.features_48"),
    ] {
        let (features, report) = vision(name, size);
        let off = furthest(&features, &expected(golden).1);
        assert!(off < 1e-5, "{golden}: off by {off}");
        assert_eq!(report.interpolated, (size == 48).then_some((4, 6)));
    }
}

/// The golden file of the whole model has EVA's weights under the names of Lynx's release.
#[test]
fn the_vision_encoder_of_lynx_is_read_by_its_names() {
    let golden = include_bytes!("../../fixtures/parity_prefix.safetensors");
    let golden = ::safetensors::SafeTensors::deserialize(golden).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let weights = golden.iter().filter_map(|(name, view)| Some((name.strip_prefix("w.")?, view)));
    let weights = ::safetensors::serialize(weights, None).unwrap();
    fs::write(folder.path().join("model.safetensors"), weights).unwrap();
    let description = r#"{"model_type": "eva", "hidden_size": 24, "intermediate_size": 96, "num_hidden_layers": 2,
        "num_attention_heads": 3, "image_size": 16, "patch_size": 8}"#;
    fs::write(folder.path().join("config.json"), description).unwrap();
    let pretrained = Pretrained::open(folder.path()).unwrap();
    let mut config = ModelConfig::default();
    pretrained.configure(Part::Vision, &mut config).unwrap();
    assert_eq!(config.vit_depth, 1);
    config.vit_depth = 2; // all layers, as in the golden file
    let device = Device::flex();
    let (model, reports) = build(&[(&pretrained, Part::Vision)], &config, 50, 0, 0, &device).unwrap();
    assert!(reports[0].unused.iter().all(|name| !name.starts_with("vision_encoder.")));
    let floats = |name: &str| -> Vec<f32> {
        let bytes = golden.tensor(name).unwrap().data().as_chunks::<4>().0;
        bytes.iter().map(|four| f32::from_le_bytes(*four)).collect()
    };
    let pixels: Tensor<4> = Tensor::from_data(TensorData::new(floats("in.image"), [2, 3, 16, 16]), &device);
    let patches = pixels.reshape([2, 3, 2, 8, 2, 8]).permute([0, 2, 4, 1, 3, 5]).reshape([2, 4, 192]);
    let features = model.vision_encoder().unwrap().forward(patches);
    let features: Vec<f32> = features.into_data().try_into_vec().unwrap();
    assert!(furthest(&features, &floats("out.vit")) < 1e-5);
}

#[test]
fn what_a_vision_encoder_does_not_use_is_told() {
    let (_, report) = vision("clip", 32);
    let last_layer = report.unused.iter().filter(|name| name.starts_with("vision_model.encoder.layers.2.")).count();
    assert_eq!(last_layer, 16);
    let others: Vec<&String> = report.unused.iter().filter(|name| !name.contains(".layers.2.")).collect();
    let norm = "vision_model.post_layernorm";
    assert_eq!(others, ["vision_model.embeddings.position_ids", &format!("{norm}.bias"), &format!("{norm}.weight")]);
}

#[test]
fn position_embeddings_are_interpolated_as_torch_does() {
    let (_, grid) = expected("positions.5");
    for side in [3, 8, 10] {
        let got = positions::interpolated(&grid, 5, side, 2);
        assert!(furthest(&got, &expected(&format!("positions.{side}")).1) < 2e-6);
    }
}

#[test]
fn tokenizers_give_the_ids_of_their_files() {
    let texts = [
        "A small dog runs across the green grass in front of an old house.",
        "Two dogs run, 12 children watch; it's 1999!",
        "the small grass in the old house",
    ];
    for (file, name, vocabulary, extra) in
        [("smollm", "smollm", 290, 0), ("smollm.gguf", "smollm", 290, 0), ("llama", "llama", 296, 1)]
    {
        let tokenizer = open(file).tokenizer().unwrap().unwrap();
        assert_eq!((tokenizer.begin(), tokenizer.end(), tokenizer.vocabulary()), (1, 2, vocabulary));
        for (i, text) in texts.iter().enumerate() {
            let ids = tokenizer.encode(text).unwrap();
            assert_eq!(ids, expected_ids(&format!("{name}.text{i}")), "{file}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), *text);
            // LLaMA's puts a space before a text.
            assert_eq!(ids.iter().map(|id| tokenizer.bytes(*id)).sum::<usize>(), text.len() + extra, "{file}");
        }
        // Special tokens in a caption are text.
        let ids = tokenizer.encode("</s><|im_end|> 猫").unwrap();
        assert!(ids.iter().all(|id| *id > 2), "{ids:?}");
        assert_eq!(tokenizer.decode(&ids).unwrap(), "</s><|im_end|> 猫");
    }
    assert!(open("qwen2").tokenizer().unwrap().is_none());
}

#[test]
fn errors_name_file_and_tensor() {
    let pretrained = open("qwen2");
    let mut config = decoder_config(&pretrained);
    config.decoder_bias = false; // a model with fewer weights is loaded, and the rest is reported
    let model = |config: &ModelConfig| Lynx::new(config, 64, 3, 0, &Device::flex()).unwrap();
    let (_, report) = pretrained.load_into(model(&config), Part::Decoder).unwrap();
    assert_eq!(report.unused.len(), 6);
    config.decoder_mlp_dim = 48;
    let error = pretrained.load_into(model(&config), Part::Decoder).unwrap_err().to_string();
    assert!(error.contains("qwen2/config.json: model.layers.0.mlp.gate_proj.weight: its shape [40, 32]"), "{error}");
    let error = pretrained.load_into(model(&config), Part::Vision).unwrap_err().to_string();
    assert!(error.contains("sight = features"), "{error}");
}

/// Copies a fixture's folder, with one file's text changed.
fn changed(name: &str, file: &str, from: &str, to: &str) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(fixture(name)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let text = fs::read_to_string(copy.path().join(file)).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(copy.path().join(file), text.replace(from, to)).unwrap();
    copy
}

#[test]
fn refuses_what_the_model_cannot_express() {
    for (name, from, to, reason) in [
        ("smollm", r#""rope_type": "default""#, r#""rope_type": "llama3""#, "llama3"),
        ("smollm", r#""head_dim": 8"#, r#""head_dim": 16"#, "4 heads of width 16 do not add up to hidden_size = 32"),
        ("smollm", r#""hidden_act": "silu""#, r#""hidden_act": "relu""#, "hidden_act"),
        ("smollm", r#""attention_bias": false"#, r#""attention_bias": true"#, "attention_bias"),
        ("smollm", r#""num_hidden_layers": 2"#, r#""num_hidden_layers": 3"#, "layers.2.input_layernorm.weight"),
        ("smollm", r#""num_hidden_layers": 2"#, r#""num_hidden_layers": 0"#, "is missing"),
        ("smollm", r#""intermediate_size": 64"#, r#""intermediate_size": 65"#, "[65, 32] by the description"),
        ("smollm", r#""num_attention_heads": 4"#, r#""num_attention_heads": 0"#, "0 heads of width 8"),
        ("qwen2", r#""num_attention_heads": 4"#, r#""num_attention_heads": 0"#, "decoder_heads = 0"),
        ("qwen2", r#""num_key_value_heads": 2"#, r#""num_key_value_heads": 3"#, "decoder_key_value_heads = 3"),
        ("smollm", r#""model_type": "llama""#, r#""model_type": "gpt2""#, r#"["gpt2"] is not one of llama, qwen2"#),
        ("clip", r#""patch_size": 8"#, r#""patch_size": 4"#, "patch_embedding.weight: its shape"),
        ("clip", r#""hidden_act": "quick_gelu""#, r#""hidden_act": "selu""#, "selu"),
        ("eva", r#""image_size": 32"#, r#""image_size": 32000"#, "image_size is 32000"),
    ] {
        let copy = changed(name, "config.json", from, to);
        let opened = Pretrained::open(copy.path());
        let error = opened.expect_err(to).to_string();
        assert!(error.contains(reason), "{error}");
    }
    let outside = changed("qwen2", INDEX, "model-00001", "../model-00001");
    assert!(Pretrained::open(outside.path()).unwrap_err().to_string().contains("is not a name of a file"));
    let lost = changed("qwen2", INDEX, "model-00003-of-00003.safetensors", "model-00002-of-00003.safetensors");
    assert!(Pretrained::open(lost.path()).unwrap_err().to_string().contains("in none of the shards"));
}

#[test]
fn factors_of_frequencies_in_gguf_are_refused() {
    let bytes = fs::read(fixture("smollm.gguf")).unwrap();
    let named = |name: &str| [&(name.len() as u64).to_le_bytes()[..], name.as_bytes()].concat();
    let (from, to) = (named("output_norm.weight"), named("rope_freqs.weight"));
    let place = bytes.windows(from.len()).position(|window| window == from).unwrap();
    // Zeros at the end, because the numbers of the tensors now begin elsewhere.
    let changed = [&bytes[..place], &to, &bytes[place + from.len()..], &[0; 64]].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scaled.gguf");
    fs::write(&path, changed).unwrap();
    let error = Pretrained::open(&path).unwrap_err().to_string();
    assert!(error.contains("its rotary positions are scaled (rope_freqs.weight), which the decoder"), "{error}");
}

const INDEX: &str = "model.safetensors.index.json";

/// Counts weights that need gradients.
struct Count(usize);

impl burn::module::ModuleVisitor for Count {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0 += usize::from(param.val().is_require_grad());
    }
}

#[test]
fn gradients_stay_as_they_were() {
    let pretrained = open("smollm");
    let device = Device::flex().autodiff();
    let model = Lynx::new(&decoder_config(&pretrained), 290, 3, 0, &device).unwrap();
    let frozen = crate::part::freeze(model.clone(), &|part| part == Part::Decoder);
    for (model, trained) in [(model.clone(), 24), (frozen, 4), (model.no_grad(), 0)] {
        let (model, report) = pretrained.load_into(model, Part::Decoder).unwrap();
        let mut count = Count(0);
        model.visit(&mut count);
        assert_eq!((count.0, report.tensors), (trained, 20));
    }
}

#[test]
fn weights_that_are_not_pretrained_are_those_of_the_seed() {
    struct Rest(Vec<String>, Vec<f32>);
    impl burn::module::ModuleVisitor for Rest {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.0.push(name.to_owned());
        }
        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if Part::of(&self.0.join(".")) != Part::Decoder {
                self.1.extend(param.val().into_data().try_into_vec::<f32>().unwrap());
            }
        }
    }
    let pretrained = open("smollm");
    let config = ModelConfig { adapter_every: 1, lora_rank: 2, ..decoder_config(&pretrained) };
    let (built, _) = build(&[(&pretrained, Part::Decoder)], &config, 290, 3, 5, &Device::flex()).unwrap();
    let drawn = Lynx::new(&config, 290, 3, 5, &Device::flex()).unwrap();
    let [built, drawn] = [built, drawn].map(|model| {
        let mut rest = Rest(Vec::new(), Vec::new());
        model.visit(&mut rest);
        rest.1
    });
    assert!(built.len() > 2_000);
    assert_eq!(built, drawn);
}

#[test]
fn a_saved_model_keeps_its_pretrained_tokenizer() {
    let pretrained = open("smollm.gguf");
    let (lynx, _) = decoder(&pretrained);
    let config = decoder_config(&pretrained);
    let ids = expected_ids("smollm.ids");
    let before = scores(&lynx, &config, &ids).into_data();
    let tokenizer = pretrained.tokenizer().unwrap().unwrap();
    let text = "12 <|im_end|> dogs";
    let tokens = tokenizer.encode(text).unwrap();
    let folder = tempfile::tempdir().unwrap();
    SavedModel { config, tokenizer, features: 3, lynx }.write(folder.path()).unwrap();
    let read = SavedModel::read(folder.path(), &DeviceName::Cpu).unwrap();
    assert_eq!((read.tokenizer.begin(), read.tokenizer.end(), read.tokenizer.vocabulary()), (1, 2, 290));
    assert_eq!(read.tokenizer.encode(text).unwrap(), tokens);
    assert_eq!(scores(&read.lynx, &read.config, &ids).into_data(), before);
}

/// Opens damaged files and, if that works, builds a model and loads it; nothing may panic.
fn survives(path: &Path) {
    let Ok(pretrained) = Pretrained::open(path) else { return };
    let _ = pretrained.tokenizer();
    let vocabulary = pretrained.vocabulary().unwrap_or(300);
    for part in [Part::Vision, Part::Decoder].into_iter().filter(|part| pretrained.has(*part)) {
        let mut config = ModelConfig { adapter_every: 0, latents: 1, ..Default::default() };
        if pretrained.configure(part, &mut config).is_ok() {
            let _ = build(&[(&pretrained, part)], &config, vocabulary, 3, 0, &Device::flex());
        }
    }
}

/// Bytes to overwrite, as places and values, and perhaps where to cut.
type Damage = (Vec<(usize, u8)>, Option<usize>);

fn damage(header: usize, length: usize) -> impl Strategy<Value = Damage> {
    let byte = (0..header, any::<u8>());
    (proptest::collection::vec(byte, 0..4), prop_oneof![3 => Just(None), 1 => (0..length).prop_map(Some)])
}

/// Copies a fixture, a file or a folder with one file, and damages the file.
fn damaged(name: &str, file: Option<&str>, (bytes, end): Damage) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let damaged = file.unwrap_or(name);
    let files = file.map_or(vec![fixture(name)], |_| {
        fs::read_dir(fixture(name)).unwrap().map(|entry| entry.unwrap().path()).collect()
    });
    for from in files {
        let to = copy.path().join(from.file_name().unwrap());
        let mut content = fs::read(&from).unwrap();
        if to.ends_with(damaged) {
            for (place, byte) in &bytes {
                content[*place] = *byte;
            }
            content.truncate(end.unwrap_or(content.len()));
        }
        fs::write(to, content).unwrap();
    }
    copy
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_gguf_file_is_an_error(damage in damage(7_000, 50_000)) {
        survives(&damaged("smollm.gguf", None, damage).path().join("smollm.gguf"));
    }

    #[test]
    fn a_damaged_safetensors_file_is_an_error(damage in damage(2_000, 50_000)) {
        survives(damaged("smollm", Some("model.safetensors"), damage).path());
    }

    #[test]
    fn a_damaged_description_is_an_error(decoder in damage(700, 700), vision in damage(400, 400)) {
        survives(damaged("smollm", Some("config.json"), decoder).path());
        survives(damaged("clip", Some("config.json"), vision).path());
    }
}

/// Expected values: `fixtures/make_pretrained.py FILE`, transformers 5.24.0, torch 2.15.0.
#[test]
fn smollm2_reads_english() {
    let Some(path) = machine::smollm2() else { return };
    let pretrained = Pretrained::open(&path).unwrap();
    let tokenizer = pretrained.tokenizer().unwrap().unwrap();
    assert_eq!((tokenizer.begin(), tokenizer.end(), tokenizer.vocabulary()), (1, 2, 49_152));
    let text = "A small dog runs across the green grass in front of an old house while a child in a red coat \
        watches from the window.";
    let ids = tokenizer.encode(text).unwrap();
    let expected = [
        49, 1165, 2767, 7313, 1699, 260, 2654, 5372, 281, 3433, 282, 354, 1573, 2291, 979, 253, 811, 281, 253, 2382,
        10078, 27593, 429, 260, 5700, 30,
    ];
    assert_eq!(ids, expected);
    assert_eq!(ids.iter().map(|id| tokenizer.bytes(*id)).sum::<usize>(), text.len());
    let (model, report) = decoder(&pretrained);
    assert_eq!((report.tensors, report.numbers, report.unused.len()), (272, 134_515_008, 0));
    let config = decoder_config(&pretrained);
    let logits = scores(&model, &config, &ids);
    let targets: Vec<i64> = ids[1..].iter().map(|id| i64::from(*id)).collect();
    let targets: Tensor<1, Int> = Tensor::from_data(targets.as_slice(), &Device::flex());
    let told = log_softmax(logits.narrow(0, 0, ids.len() - 1), 1).gather(1, targets.unsqueeze_dim(1));
    let nats = -told.mean().into_scalar::<f32>();
    assert!((nats - 3.686_152).abs() < 5e-5, "{nats}");
    let ids = tokenizer.encode("The capital of France is").unwrap();
    let last = scores(&model, &config, &ids).narrow(0, ids.len() - 1, 1);
    let (largest, next) = last.max_dim_with_indices(1);
    assert_eq!(tokenizer.decode(&[next.into_scalar::<i64>() as u32]).unwrap(), " Paris");
    assert!((largest.into_scalar::<f32>() - 17.3713).abs() < 1e-3);
}
