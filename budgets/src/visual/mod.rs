//! Computes the number of tokens of an image from its size. There is one file per family of models.
//!
//! The arithmetic is that of the image processors of Hugging Face `transformers`. They computed
//! every count in `golden/visual_tokens.tsv` (version 5.24.0), and a test compares them with ours.

mod any_resolution;
mod fixed;
mod idefics3;
mod internvl;
mod qwen_vl;

use crate::error::{Error, Result};

/// The tokens for one image in the sequence of a language model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VisualTokens {
    /// Tokens with features of the image.
    pub features: u64,
    /// Tokens that the processor or the chat template adds around and between them: begin and end
    /// of an image, names of tiles, line feeds.
    pub marks: u64,
}

impl VisualTokens {
    /// Returns all tokens of the image in the sequence.
    pub fn all(self) -> u64 {
        self.features + self.marks
    }
}

/// The arithmetic of a family with the settings of one model.
#[derive(Clone, Debug, PartialEq)]
enum Arithmetic {
    QwenVl(qwen_vl::QwenVl),
    InternVl(internvl::InternVl),
    AnyResolution(any_resolution::AnyResolution),
    Idefics3(idefics3::Idefics3),
    Fixed(fixed::Fixed),
}

/// A model whose visual tokens can be computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    name: String,
    arithmetic: Arithmetic,
}

/// A model with its default settings.
struct Known {
    name: &'static str,
    /// Prefixes of its names on Hugging Face, in lower case.
    prefixes: &'static [&'static str],
    about: &'static str,
    arithmetic: fn() -> Arithmetic,
}

/// The models. If several prefixes match, the longest one is used.
const KNOWN: &[Known] = &[
    Known {
        name: "qwen2-vl",
        prefixes: &["qwen2-vl"],
        about: "patches of 14 merged 2 x 2; min_pixels 3136, max_pixels 12845056",
        arithmetic: || Arithmetic::QwenVl(qwen_vl::QWEN2),
    },
    Known {
        name: "qwen2.5-vl",
        prefixes: &["qwen2.5-vl", "qwen2_5_vl"],
        about: "as qwen2-vl",
        arithmetic: || Arithmetic::QwenVl(qwen_vl::QWEN2),
    },
    Known {
        name: "qwen3-vl",
        prefixes: &["qwen3-vl"],
        about: "patches of 16 merged 2 x 2; min_pixels 65536, max_pixels 16777216",
        arithmetic: || Arithmetic::QwenVl(qwen_vl::QWEN3),
    },
    Known {
        name: "internvl",
        prefixes: &["internvl"],
        about: "1 to 12 tiles of 448 with a thumbnail, 256 tokens each; max_tiles 12, min_tiles 1",
        arithmetic: || Arithmetic::InternVl(internvl::INTERNVL),
    },
    Known {
        name: "llava-1.5",
        prefixes: &["llava-1.5", "llava-v1.5"],
        about: "576 for any image",
        arithmetic: || Arithmetic::Fixed(fixed::LLAVA),
    },
    Known {
        name: "llava-next",
        prefixes: &["llava-next", "llava-v1.6", "llava-1.6"],
        about: "any resolution of 5 grids of 336, unpadded, with a row end each row",
        arithmetic: || Arithmetic::AnyResolution(any_resolution::LLAVA_NEXT),
    },
    Known {
        name: "llava-onevision",
        prefixes: &["llava-onevision"],
        about: "any resolution of 36 grids of 384 (anyres_max_9); 730 in records of several images",
        arithmetic: || Arithmetic::AnyResolution(any_resolution::LLAVA_ONEVISION),
    },
    Known {
        name: "idefics3",
        prefixes: &["idefics3"],
        about: "tiles of 364 and a thumbnail, 169 tokens each",
        arithmetic: || Arithmetic::Idefics3(idefics3::IDEFICS3),
    },
    Known {
        name: "smolvlm",
        prefixes: &["smolvlm", "smolvlm2"],
        about: "SmolVLM and SmolVLM2 of 2.2 B: tiles of 384 and a thumbnail, 81 tokens each",
        arithmetic: || Arithmetic::Idefics3(idefics3::SMOLVLM),
    },
    Known {
        name: "smolvlm-256m",
        prefixes: &["smolvlm-256m", "smolvlm-500m", "smolvlm2-256m", "smolvlm2-500m"],
        about: "SmolVLM and SmolVLM2 of 256 M and 500 M: tiles of 512 and a thumbnail, 64 tokens each",
        arithmetic: || Arithmetic::Idefics3(idefics3::SMOLVLM_256M),
    },
    Known {
        name: "gemma3",
        prefixes: &["gemma3", "gemma-3"],
        about: "256 for any image, pan-and-scan off",
        arithmetic: || Arithmetic::Fixed(fixed::GEMMA3),
    },
    Known {
        name: "lynx",
        prefixes: &["lynx"],
        about: "32 for any image",
        arithmetic: || Arithmetic::Fixed(fixed::LYNX),
    },
    Known {
        name: "fixed",
        prefixes: &["fixed"],
        about: "fixed,tokens=N: N for any image",
        arithmetic: || Arithmetic::Fixed(fixed::NONE),
    },
];

/// Returns the names of all models with a description of each.
pub fn models() -> impl Iterator<Item = (&'static str, &'static str)> {
    KNOWN.iter().map(|known| (known.name, known.about))
}

impl Model {
    /// Finds a model by its name here or on Hugging Face (`Qwen/Qwen2.5-VL-7B-Instruct`). Settings
    /// that differ from the published ones follow after commas: `qwen2-vl,max_pixels=1003520`.
    ///
    /// # Errors
    /// If there is no such model or setting, or the value is not allowed.
    pub fn parse(text: &str) -> Result<Model> {
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default().trim();
        let plain = name.rsplit('/').next().unwrap_or_default().to_lowercase();
        let matches = KNOWN.iter().filter_map(|known| {
            let longest = known.prefixes.iter().filter(|prefix| plain.starts_with(**prefix)).map(|prefix| prefix.len());
            longest.max().map(|length| (length, known))
        });
        let Some((_, known)) = matches.max_by_key(|(length, _)| *length) else {
            let names: Vec<&str> = KNOWN.iter().map(|known| known.name).collect();
            return Err(Error::UnknownModel { name: name.to_owned(), known: names.join(", ") });
        };
        let mut arithmetic = (known.arithmetic)();
        for setting in parts {
            let (key, value) = setting.split_once('=').unwrap_or((setting, ""));
            let bad =
                |reason: String| Error::ModelSetting { model: known.name, setting: setting.trim().to_owned(), reason };
            let number = value.trim().parse::<u32>().ok().filter(|number| *number > 0);
            let number = number.ok_or_else(|| bad("it needs a whole number of 1 or more, as in key=4".to_owned()))?;
            arithmetic.set(key.trim(), number).map_err(bad)?;
        }
        if arithmetic == Arithmetic::Fixed(fixed::NONE) {
            let reason = "give the number of tokens of an image, as in fixed,tokens=64".to_owned();
            return Err(Error::ModelSetting { model: known.name, setting: text.to_owned(), reason });
        }
        Ok(Model { name: text.to_owned(), arithmetic })
    }

    /// Returns the requested name, with its settings.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the tokens of an image of `width` x `height` pixels in a record with `pictures`
    /// images.
    ///
    /// # Errors
    /// Returns why the processor of the model fails on an image of this size.
    pub fn visual_tokens(&self, width: u32, height: u32, pictures: usize) -> std::result::Result<VisualTokens, Unfit> {
        if width == 0 || height == 0 {
            return Err(Unfit("it has no pixels"));
        }
        match &self.arithmetic {
            Arithmetic::QwenVl(family) => family.count(width, height),
            Arithmetic::InternVl(family) => Ok(family.count(width, height)),
            Arithmetic::AnyResolution(family) => family.count(width, height, pictures),
            Arithmetic::Idefics3(family) => Ok(family.count(width, height)),
            Arithmetic::Fixed(family) => Ok(family.count()),
        }
    }

    /// Returns the tokens of an image if they are the same for every size.
    pub fn fixed_tokens(&self) -> Option<VisualTokens> {
        if let Arithmetic::Fixed(family) = &self.arithmetic { Some(family.count()) } else { None }
    }
}

impl Arithmetic {
    fn set(&mut self, key: &str, value: u32) -> std::result::Result<(), String> {
        let (place, known) = match self {
            Arithmetic::QwenVl(family) => (family.setting(key), "min_pixels, max_pixels"),
            Arithmetic::InternVl(family) => (family.setting(key), "min_tiles, max_tiles"),
            Arithmetic::Fixed(family) => (family.setting(key), "tokens"),
            Arithmetic::AnyResolution(_) | Arithmetic::Idefics3(_) => (None, ""),
        };
        let none = || if known.is_empty() { "it has no settings".to_owned() } else { format!("it has {known}") };
        *place.ok_or_else(none)? = value;
        match self {
            Arithmetic::QwenVl(family) if family.min_pixels > family.max_pixels => {
                Err(format!("min_pixels {} is above max_pixels {}", family.min_pixels, family.max_pixels))
            }
            Arithmetic::InternVl(family) if family.min_tiles > family.max_tiles => {
                Err(format!("min_tiles {} is above max_tiles {}", family.min_tiles, family.max_tiles))
            }
            // The search is quadratic in the number of tiles; published models have at most 40.
            Arithmetic::InternVl(family) if family.max_tiles > 1000 => Err("max_tiles must be at most 1000".to_owned()),
            _ => Ok(()),
        }
    }
}

/// The reason why a processor fails on an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(pub(crate) &'static str);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_count_is_that_of_the_official_processor() {
        let golden = include_str!("../../golden/visual_tokens.tsv");
        let mut compared = 0;
        let mut models = std::collections::BTreeSet::new();
        for line in golden.lines().filter(|line| !line.starts_with('#')).skip(1) {
            let cells: Vec<&str> = line.split('\t').collect();
            let [model, width, height, pictures, features, all] = cells[..] else { panic!("{line}") };
            let size = |text: &str| text.parse::<u32>().unwrap();
            let own = Model::parse(model).unwrap();
            let own = own.visual_tokens(size(width), size(height), size(pictures) as usize);
            let expected = features.parse().ok().map(|features: u64| (features, all.parse::<u64>().unwrap()));
            assert_eq!(own.ok().map(|tokens| (tokens.features, tokens.all())), expected, "{line}");
            models.insert(model);
            compared += 1;
        }
        assert!(compared > 2000, "{compared} sizes");
        for known in KNOWN.iter().filter(|known| !["lynx", "fixed"].contains(&known.name)) {
            assert!(models.contains(known.name), "{} has no golden values", known.name);
        }
    }

    #[test]
    fn models_are_found_by_the_names_that_they_have_elsewhere() {
        let same = |name: &str, expected: &str| {
            let (found, expected) = (Model::parse(name).unwrap(), Model::parse(expected).unwrap());
            assert_eq!(found.arithmetic, expected.arithmetic, "{name}");
        };
        same("Qwen/Qwen2.5-VL-7B-Instruct", "qwen2.5-vl");
        same("llava-hf/llava-v1.6-mistral-7b-hf", "llava-next");
        same("HuggingFaceTB/SmolVLM2-500M-Video-Instruct", "smolvlm-256m");
        same("HuggingFaceTB/SmolVLM-Instruct", "smolvlm");
        same("google/gemma-3-4b-it", "gemma3");
        same("OpenGVLab/InternVL3-8B", "internvl");
        let lynx = Model::parse("lynx").unwrap().visual_tokens(1, 9, 1).unwrap();
        assert_eq!((lynx.features, lynx.marks), (32, 0), "section 2.2 of arXiv 2307.02469");
        assert_eq!(Model::parse("fixed,tokens=7").unwrap().fixed_tokens().unwrap().all(), 7);
    }

    #[test]
    fn what_is_no_model_or_setting_is_told() {
        for (name, told) in [
            ("gpt-4o", "no model gpt-4o"),
            ("fixed", "fixed,tokens=64"),
            ("qwen2-vl,max_pixels", "whole number"),
            ("qwen2-vl,tiles=3", "min_pixels, max_pixels"),
            ("qwen2-vl,max_pixels=10", "above"),
            ("idefics3,a=1", "no settings"),
            ("internvl,max_tiles=100000", "at most"),
        ] {
            let error = Model::parse(name).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
        assert!(Model::parse("gemma3").unwrap().visual_tokens(0, 5, 1).is_err());
    }
}
