//! The page as a whole, over a made-up run of the size of the quickstart.

use lynxdata_check::fit::Fit;
use lynxdata_check::metrics::{Column, HELD_OUT_LOSS, METRICS, Measure, VISUAL_GAIN};
use lynxdata_check::outcome::{CheckOutcome, Gate, Protocol, arm_fits, judge};
use lynxdata_check::split::{HeldOut, LeftOut};
use lynxdata_check::{FitResult, Gear, Losses, Measured, Metric, Seen, Split, Version};

use super::data::{
    Arm, CheckSummary, Comparison, ConversationSample, DiversitySummary, DuplicateCluster, FunnelStep, InstructSummary,
    Loss, Message, PositionSummary, Rejection, ReportData, Run, Sample, SelectionSummary, SignalHistogram, TaskSummary,
    TemplateUse, Threshold, Thumbnail, data_uri,
};
use super::histogram::{with_numbers, with_texts};
use super::threshold::thresholds_in;
use super::{check, render, unaccounted_rows};

const HOSTILE: &str =
    "</figcaption><script>alert(1)</script><img src=x onerror=alert(2)>\" onload='alert(3)' {{ 7 * 7 }}";

/// A small generator with a fixed start (Steele and Vigna's splitmix64), so that the sample never
/// changes.
struct Draws(u64);

impl Draws {
    /// Even between 0 and 1.
    fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ bits >> 31) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// About normal: mean 0, deviation 1 (twelve even draws).
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.even()).sum::<f64>() - 6.0
    }
}

/// A gradient of 24 × 18 pixels as an uncompressed BMP.
fn picture(hue: u8) -> String {
    let (width, height) = (24_u8, 18_u8);
    let mut bytes = b"BM".to_vec();
    bytes.extend([0; 8]);
    bytes.extend([54, 0, 0, 0, 40, 0, 0, 0, width, 0, 0, 0, height, 0, 0, 0, 1, 0, 24, 0]);
    bytes.extend([0; 24]);
    for y in 0..height {
        for x in 0..width {
            bytes.extend([hue, 255 - 8 * x, 100 + 8 * y]);
        }
    }
    data_uri("image/bmp", &bytes)
}

fn thumbnail(number: u8, caption: &str, kept: bool) -> Thumbnail {
    Thumbnail {
        uid: format!("{number:02x}4f9c21aa3be07715d06c2f8831{number:04x}"),
        caption: caption.to_owned(),
        url: format!("https://images.example.org/archive/2019/{number}/photograph.jpg"),
        image_data_uri: picture(number.wrapping_mul(37)),
        width: 320,
        height: 240,
        kept,
        note: String::new(),
    }
}

fn loss(reason: &str, rows: u64, explanation: &str) -> Loss {
    Loss { reason: reason.to_owned(), rows, explanation: explanation.to_owned() }
}

fn funnel() -> Vec<FunnelStep> {
    let step = |name: &str, description: &str, rows, losses| FunnelStep {
        name: name.to_owned(),
        description: description.to_owned(),
        rows,
        note: String::new(),
        losses,
    };
    vec![
        step("listed", "Rows of the source list, examples/pairs.tsv.", 3195, vec![]),
        step(
            "downloaded",
            "The image arrived, could be decoded and was resized.",
            2986,
            vec![
                loss("http_404", 121, "the server says that there is no such page"),
                loss("timed_out", 43, "no complete answer within 10 s"),
                loss("not_an_image", 32, "the answer was HTML or could not be decoded"),
                loss("too_large", 13, "more than 20 MB"),
            ],
        ),
        step(
            "unique",
            "Pairs that are not duplicates of a kept pair.",
            2571,
            vec![
                loss("same_bytes", 163, "byte for byte the same image"),
                loss("same_phash", 252, "pHash within 6 bits of a kept image"),
            ],
        ),
        step(
            "kept",
            "Pairs that pass every rule of the selection clean.",
            1408,
            vec![
                loss("caption_words", 702, "first rule that the row fails: caption_words between 3 and 40"),
                loss("shorter_side", 311, "first rule that the row fails: width >= 200 and height >= 200"),
                loss("aspect_ratio", 96, "first rule that the row fails: aspect_ratio <= 3"),
                loss("english", 54, "first rule that the row fails: language = 'en'"),
            ],
        ),
    ]
}

const RULES: [(&str, &str); 4] = [
    ("caption_words", "caption_words between 3 and 40"),
    ("shorter_side", "width >= 200 and height >= 200"),
    ("aspect_ratio", "aspect_ratio <= 3"),
    ("english", "language = 'en'"),
];

fn signals() -> Vec<SignalHistogram> {
    let mut draws = Draws(7);
    let mut rows = Vec::new();
    for _ in 0..2986 {
        let words = (2.1 + 0.8 * draws.normal()).exp().round().max(1.0);
        let width = (5.6 + 1.3 * draws.normal()).exp().clamp(2.0, 9000.0).round();
        let ratio = (0.45 * draws.normal().abs()).exp() + if draws.even() < 0.01 { 20.0 * draws.even() } else { 0.0 };
        let letters = 1.0 - (0.09 * draws.normal().abs()).min(1.0);
        let languages = ["en", "en", "en", "en", "en", "en", "de", "fr", "es", "pl", "zh", "nl", "it"];
        let language = languages[(draws.even() * 13.0) as usize];
        let kept = (3.0..=40.0).contains(&words) && width >= 200.0 && ratio <= 3.0 && language == "en";
        rows.push((words, width, ratio, letters, language, kept));
    }
    let described = |name: &str, description: &str, unit: &str| SignalHistogram {
        name: name.to_owned(),
        description: description.to_owned(),
        unit: unit.to_owned(),
        thresholds: RULES
            .iter()
            .flat_map(|(rule, predicate)| {
                let bounds = thresholds_in(predicate, name);
                bounds.into_iter().map(|value| Threshold {
                    value,
                    rule: (*rule).to_owned(),
                    predicate: (*predicate).to_owned(),
                })
            })
            .collect(),
        ..SignalHistogram::default()
    };
    vec![
        with_numbers(
            described("caption_words", "Words of the caption.", ""),
            rows.iter().map(|row| (Some(row.0), row.5)),
        ),
        with_texts(
            described("language", "Most likely language of the caption.", ""),
            rows.iter().map(|row| (Some(row.4).filter(|_| row.0 > 1.0), row.5)),
        ),
        with_numbers(described("width", "Width of the image.", "pixels"), rows.iter().map(|row| (Some(row.1), row.5))),
        with_numbers(
            described("aspect_ratio", "Longest side / shortest side; 1 is square.", ""),
            rows.iter().map(|row| (Some(row.2), row.5)),
        ),
        with_numbers(
            described("letter_share", "Share of the caption's characters that are letters.", ""),
            rows.iter().map(|row| (Some(row.3), row.5)),
        ),
    ]
}

fn made_up_check() -> CheckSummary {
    let mut draws = Draws(11);
    let mut arm = |name: &str, pairs, floor: f64, held_out: f64, gain: f64| Arm {
        name: name.to_owned(),
        pairs,
        runs: (0..6)
            .map(|replicate| Run {
                replicate,
                curve: (1..=300)
                    .map(|step| (step * 2, floor + 4.2 * (-(step as f64) / 45.0).exp() + 0.05 * draws.normal()))
                    .collect(),
                values: [(&HELD_OUT_LOSS, held_out), (&VISUAL_GAIN, gain)]
                    .map(|(metric, level)| (metric, Some(level + 0.01 * draws.normal())))
                    .into_iter()
                    .collect(),
            })
            .collect(),
    };
    let arms = vec![arm("clean", 1408, 2.31, 0.779, 0.118), arm("everything", 2986, 2.44, 0.806, 0.111)];
    let row = |metric: &str, lower_is_better, mean_difference, ci_low, ci_high, p| Comparison {
        metric: metric.to_owned(),
        unit: "nats per byte".to_owned(),
        first: "clean".to_owned(),
        second: "everything".to_owned(),
        lower_is_better,
        mean_difference,
        ci_low,
        ci_high,
        confidence: 0.95,
        p,
        is_adjusted: None,
        n: 6,
    };
    CheckSummary {
        metric: "held-out loss".to_owned(),
        arms,
        comparisons: vec![
            row("held-out loss", true, -0.0312, -0.0518, -0.0104, 0.031_25),
            row("visual gain", false, 0.0125, -0.0041, 0.0288, 0.125),
        ],
        verdict_word: "clean is better".to_owned(),
        verdict_sentence:
            "Trained on clean, the model predicts captions of unseen pairs better in 6 of 6 pairs of runs: \
                           0.031 nats per byte less loss, 95% interval 0.010 to 0.052."
                .to_owned(),
        method: "A compact Lynx of 600,000 weights is trained on every arm in 6 replicates.".to_owned(),
        gear: Gear::Lynx,
        metrics: METRICS.to_vec(),
        controls: vec![row("10 % wrong texts", false, 0.031, 0.012, 0.05, 0.004)],
        gates: vec![Gate {
            name: "looks at pictures".to_owned(),
            passed: true,
            finding: "the least visual gain of a replicate is +0.1".to_owned(),
        }],
        notes: vec![
            "A model of 0.6 million parameters and 600 steps. One small scale predicts the order at a large one only \
             most of the time."
                .to_owned(),
            "Both arms see the same number of pairs, so the smaller one repeats them more often.".to_owned(),
        ],
    }
}

fn diversity() -> DiversitySummary {
    DiversitySummary {
        entropy_bits: 2.1,
        distinct_1: 0.0834,
        distinct_2: 0.2712,
        self_bleu: Some(0.431),
        repeated: 0.125,
        answer_p50: 1,
        answer_p90: 11,
        answer_max: 46,
    }
}

fn instruct() -> InstructSummary {
    let task = |name: &str, group: &str, licence: &str, conversations, templates_used| TaskSummary {
        name: name.to_owned(),
        group: group.to_owned(),
        licence: licence.to_owned(),
        conversations,
        templates_used,
        templates_total: 8,
        diversity: diversity(),
        left_out: [("not_an_image".to_owned(), 3), ("no_text:captions".to_owned(), 1)].into(),
    };
    let wordings = [
        ("vqa", "vqa-01", "{{ question }} Answer in a few words.", 61),
        ("vqa", "vqa-02", "Look at the picture and answer: {{ question }}", 48),
        ("vqa", "vqa-03", "{{ question }}", 39),
        ("caption", "caption-01", "Describe the image in one sentence.", 57),
        ("caption", "caption-02", "What does this picture show?", 0),
    ];
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    InstructSummary {
        tasks: vec![
            task("vqav2", "vqa", "CC-BY-4.0", 148, 8),
            task("coco_captions", "caption", "CC-BY-4.0", 120, 7),
            task("science_qa", "vqa", "CC-BY-NC-SA-4.0", 60, 8),
        ],
        templates: wordings
            .map(|(bank, id, text, uses)| TemplateUse {
                bank: bank.to_owned(),
                id: id.to_owned(),
                text: text.to_owned(),
                uses,
            })
            .into(),
        diversity: diversity(),
        right_options: Some(PositionSummary {
            counts: vec![16, 14, 15, 15],
            chi_square: 0.133,
            freedom: 3,
            p: Some(0.988),
        }),
        samples: vec![ConversationSample {
            task: "vqav2".to_owned(),
            images: vec![thumbnail(200, "", true)],
            messages: vec![
                message("user", "<image>\nWhat is the dog holding? Answer in a few words."),
                message("assistant", "a red frisbee"),
            ],
        }],
    }
}

/// A run in which every section has something to show.
fn sample() -> ReportData {
    let captions = [
        "A brown dog leaps to catch a red frisbee over a mown lawn.",
        "Two people share an umbrella on a crowded crossing at dusk",
        "Stop sign, weathered, with a sticker of a penguin",
        "北京胡同里的一辆自行车",
        "כלב קטן ישן על ספה כחולה",
        "A plate of pasta with basil, seen from above, on a wooden table next to a glass of water, a folded napkin, two \
         forks, a knife, a spoon, a small bowl of grated cheese, a pepper mill, a candle, a vase with three daisies, and \
         the corner of a newspaper whose headline cannot be read",
    ];
    let numbered = || (1_u8..).zip(captions);
    let kept_samples = numbered()
        .map(|(number, caption)| Sample { thumbnail: thumbnail(number, caption, true), reasons: vec![] })
        .collect();
    let mut rejected_samples: Vec<Sample> = numbered()
        .map(|(number, caption)| Sample {
            thumbnail: thumbnail(number + 20, caption, false),
            reasons: vec!["caption_words: 1 word".to_owned(), "shorter_side: 96 pixels".to_owned()],
        })
        .collect();
    rejected_samples[0].thumbnail.caption = HOSTILE.to_owned();
    rejected_samples[0].thumbnail.url = "javascript:alert(4)".to_owned();
    rejected_samples[1].thumbnail.image_data_uri = "data:image/svg+xml;base64,PHN2Zz4=".to_owned();
    let member = |number, caption: &str, kept, note: &str| Thumbnail {
        note: note.to_owned(),
        ..thumbnail(number, caption, kept)
    };
    ReportData {
        title: "Quickstart: clip art, drawings and photographs".to_owned(),
        recipe_path: "quickstart/recipe.toml".to_owned(),
        recipe_toml: "name = \"quickstart\"\n\n[[sources]]\npath = \"pairs.tsv\" # <url, caption>\n".to_owned(),
        lynxdata_version: "0.1.0".to_owned(),
        funnel: funnel(),
        signals: signals(),
        selections: vec![
            SelectionSummary {
                name: "clean".to_owned(),
                rows_in: 2571,
                kept: 1408,
                rejected_by: RULES
                    .iter()
                    .zip([(702, 498), (467, 280), (131, 60), (212, 54)])
                    .map(|((rule, predicate), (rows, rows_only_this_rule))| Rejection {
                        rule: (*rule).to_owned(),
                        predicate: (*predicate).to_owned(),
                        rows,
                        rows_only_this_rule,
                    })
                    .collect(),
            },
            SelectionSummary { name: "everything".to_owned(), rows_in: 2986, kept: 2986, rejected_by: vec![] },
        ],
        duplicate_clusters: 152,
        duplicates: vec![
            DuplicateCluster {
                kind: "same bytes".to_owned(),
                size: 2,
                members: vec![
                    member(90, "tango, apply", true, ""),
                    member(90, "apply icon", false, "also filed as another picture"),
                ],
                warning: String::new(),
            },
            DuplicateCluster {
                kind: "pHash within 6 bits".to_owned(),
                size: 4,
                members: vec![
                    member(91, captions[0], true, "the largest"),
                    member(92, "dog", false, "distance 2"),
                    member(93, "IMG_2041", false, "distance 5"),
                ],
                warning: "700 of 2571 pairs".to_owned(),
            },
        ],
        kept_samples,
        rejected_samples,
        instruct: Some(instruct()),
        check: Some(made_up_check()),
    }
}

/// Writes the sample where a person can look at it, if `LYNXDATA_REPORT_SAMPLE` names a folder.
#[test]
fn renders_every_section() {
    let data = sample();
    let page = render(&data).unwrap();
    for heading in [
        "In short",
        "What happened to every row",
        "Which data is better to train on",
        "What each rule rejected",
        "What was measured",
    ] {
        assert!(page.contains(&format!("{heading}</h2>")), "{heading}");
    }
    for heading in ["Duplicates", "Examples", "The instruction set", "How it was made"] {
        assert!(page.contains(&format!("{heading}</h2>")), "{heading}");
    }
    let verdict = page.find("clean is better").expect("the verdict is on the page");
    assert!(verdict < page.find("What happened to every row").unwrap(), "the verdict comes first");
    assert_eq!(page, render(&data).unwrap(), "the same data give the same bytes");
    if let Some(folder) = std::env::var_os("LYNXDATA_REPORT_SAMPLE") {
        let folder = std::path::PathBuf::from(folder);
        std::fs::write(folder.join("report.html"), page).unwrap();
        std::fs::write(folder.join("report.json"), serde_json::to_string_pretty(&data).unwrap()).unwrap();
    }
}

/// Returns the section of the page about a check.
fn section(page: &str) -> &str {
    let start = page.find("<section id=\"check\">").expect("the check has a section");
    &page[start..start + page[start..].find("</section>").expect("sections end")]
}

/// The outcomes of the golden test of the crate of the check, as `report.json` and as the page.
#[test]
fn checks_are_shown_as_before() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
    let outcomes = std::fs::read_to_string(format!("{folder}/../../../check/golden/outcomes.json")).unwrap();
    let outcomes: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&outcomes).unwrap();
    let (mut summaries, mut sections) = (serde_json::Map::new(), String::new());
    for (name, case) in outcomes {
        let outcome: CheckOutcome = serde_json::from_value(case["outcome"].clone()).unwrap();
        let fits: Vec<FitResult> = serde_json::from_value(case["fits"].clone()).unwrap();
        let fits = if outcome.protocol.gear == Gear::Quick { Vec::new() } else { fits };
        let summary = check::summary(&outcome, &fits);
        summaries.insert(name, serde_json::to_value(&summary).unwrap());
        sections += section(&render(&ReportData { check: Some(summary), ..ReportData::default() }).unwrap());
    }
    let json = serde_json::to_string_pretty(&summaries).unwrap() + "\n";
    for (name, text) in [("checks.json", json), ("checks.html", sections)] {
        let path = format!("{folder}/{name}");
        if std::env::var_os("LYNXDATA_REWRITE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap();
        assert_eq!(golden, text, "look at {path} with LYNXDATA_REWRITE=1 and git diff");
    }
}

/// A made-up metric.
const SURPRISE: Metric = Metric {
    measure: Measure { name: "surprise", pair_key: "surprise", of_pair: |seen| seen.mean_bits(|losses| losses.nats) },
    baseline: None,
    words: "surprise",
    column: Column { key: "surprise", title: "Surprise", unit: |_| "gasps", meaning: "Surprise is made up." },
    ..HELD_OUT_LOSS
};

#[test]
fn a_metric_that_is_added_to_the_list_is_on_the_page() {
    const ALL: &[&Metric] = &[&VISUAL_GAIN, &HELD_OUT_LOSS, &SURPRISE];
    let held_out = (0..60_u32).map(|pair| HeldOut {
        pair,
        uid: pair.to_string(),
        cluster: pair.to_string(),
        origin: 3,
        counts: true,
    });
    let split = Split {
        arms: vec![(100..300).collect(), (300..500).collect()],
        held_out: held_out.collect(),
        is_given: true,
        are_conversations: false,
        left_out: LeftOut {
            pairs_of_arms: vec![200; 2],
            in_held_out_clusters: vec![0; 2],
            same_text: vec![0; 2],
            similar_text: vec![0; 2],
            beyond_most: vec![0; 2],
            ..LeftOut::default()
        },
    };
    let made = |fit: Fit| {
        let nats = if fit.version == (Version::Arm { arm: 0 }) { 1.25 } else { 2.5 } + 0.01 * fit.replicate as f64;
        let losses = [Losses { nats, nats_wrong_picture: 3.0, nats_unigram: 4.0 }];
        let measured = split.held_out.iter().map(|_| Measured::new(ALL, &Seen::Losses(&losses), 1.0)).collect();
        FitResult::new(fit, &split, 1, ALL, measured, &[], None)
    };
    let protocol = Protocol {
        gear: Gear::Lynx,
        metric: &VISUAL_GAIN,
        seed: 1,
        replicates: 4,
        looks: vec![4],
        alpha: 0.05,
        margin_percent: 10.0,
        fewest_pairs: 100,
        fewest_held_out: 50,
    };
    let fits: Vec<FitResult> = arm_fits(&[0, 1], 4).into_iter().map(made).collect();
    let outcome = judge(&protocol, ALL, &["clean".to_owned(), "raw".to_owned()], &split, &[200; 2], &fits);
    let summary = check::summary(&outcome, &fits);
    let value = serde_json::to_value(&summary).unwrap()["arms"][1]["runs"][3]["surprise"].as_f64().unwrap();
    assert!((value - 2.53 / std::f64::consts::LN_2).abs() < 1e-9, "{value}");
    assert_eq!(summary.comparisons.iter().filter(|row| row.metric == "surprise").count(), 1);
    let page = render(&ReportData { check: Some(summary), ..ReportData::default() }).unwrap();
    for part in [
        "<th scope=\"col\" class=\"n\">Surprise <small>gasps</small></th>",
        "<td class=\"n\" data-name=\"surprise\">1.83</td>",
        "<th scope=\"col\" class=\"n\">Surprise</th>",
        "<td class=\"n\">1.80</td>",
        "Surprise is made up.",
        "<td class=\"title\">surprise <small>clean minus raw, bits a byte; lower is better</small></td>",
    ] {
        assert!(section(&page).contains(part), "{part}: {}", section(&page));
    }
}

#[test]
fn says_nothing_about_what_did_not_happen() {
    let page = render(&ReportData { title: "empty".to_owned(), ..ReportData::default() }).unwrap();
    for section in ["rows", "check", "rules", "signals", "duplicates", "examples", "instructions"] {
        assert!(!page.contains(&format!("<section id=\"{section}\"")), "{section}");
        assert!(!page.contains(&format!("href=\"#{section}\"")), "{section}");
    }
    assert!(page.contains("<section id=\"recipe\""));
}

#[test]
fn leaves_hostile_text_inert() {
    let mut data = sample();
    // Whatever comes from outside, in every place where it is shown.
    HOSTILE.clone_into(&mut data.title);
    HOSTILE.clone_into(&mut data.recipe_toml);
    HOSTILE.clone_into(&mut data.funnel[1].losses[0].reason);
    HOSTILE.clone_into(&mut data.funnel[1].name);
    HOSTILE.clone_into(&mut data.signals[0].name);
    HOSTILE.clone_into(&mut data.signals[0].thresholds[0].rule);
    HOSTILE.clone_into(&mut data.signals[0].thresholds[0].predicate);
    HOSTILE.clone_into(&mut data.signals[1].categories[0].name);
    HOSTILE.clone_into(&mut data.selections[0].rejected_by[0].predicate);
    HOSTILE.clone_into(&mut data.duplicates[0].members[0].caption);
    data.duplicates[0].members[0].image_data_uri = format!("data:image/png;base64,{HOSTILE}");
    data.duplicates[0].members[1].url = format!("https://example.org/{HOSTILE}");
    data.kept_samples[0].thumbnail.caption = HOSTILE.repeat(9);
    HOSTILE.clone_into(&mut data.rejected_samples[1].reasons[0]);
    let instruct = data.instruct.as_mut().unwrap();
    HOSTILE.clone_into(&mut instruct.templates[0].text);
    HOSTILE.clone_into(&mut instruct.samples[0].messages[0].content);
    HOSTILE.clone_into(&mut instruct.samples[0].images[0].caption);
    let check = data.check.as_mut().unwrap();
    HOSTILE.clone_into(&mut check.arms[0].name);
    HOSTILE.clone_into(&mut check.comparisons[0].first);
    HOSTILE.clone_into(&mut check.verdict_sentence);

    let page = render(&data).unwrap();
    assert!(page.matches("&lt;script&gt;").count() > 20);
    let lower = page.to_lowercase();
    assert!(!lower.contains("<script"));
    assert!(!lower.contains("<img src=x"));
    assert!(!page.contains("\" onload="), "a quote must not end an attribute");
    assert!(!lower.contains("href=\"javascript"));
    assert!(!lower.contains("image/svg+xml"));
    assert!(page.contains("{{ 7 * 7 }}"), "data are not a template");
}

#[test]
fn asks_no_server_for_anything() {
    let page = render(&sample()).unwrap();
    assert!(page.contains("default-src 'none'; img-src data:; style-src 'unsafe-inline'"));
    for attribute in ["src=\"", "srcset=\"", "data=\"", "poster=\"", "xlink:href=\"", "action=\""] {
        for (place, _) in page.match_indices(attribute) {
            assert!(page[place + attribute.len()..].starts_with("data:"), "{}", &page[place..place + 60]);
        }
    }
    for word in ["<link", "<iframe", "<object", "<embed", "<base", "@import", "url(", "<style src"] {
        assert!(!page.contains(word), "{word}");
    }
}

#[test]
fn shows_rows_that_do_not_add_up() {
    let mut data = sample();
    assert_eq!(unaccounted_rows(&data.funnel), 0);
    assert!(!render(&data).unwrap().contains("Unaccounted for"));
    data.funnel[2].losses[0].rows -= 5;
    assert_eq!(unaccounted_rows(&data.funnel), 5);
    let page = render(&data).unwrap();
    assert_eq!(page.matches("Unaccounted for").count(), 1);
    assert!(page.contains(">−5<"));
}

#[test]
fn writes_the_same_numbers_as_json() {
    let data = sample();
    let json = serde_json::to_string(&data).unwrap();
    let read: ReportData = serde_json::from_str(&json).unwrap();
    assert_eq!(read, data);
}

#[test]
fn keeps_long_captions_whole() {
    let mut data = sample();
    let caption = "long ".repeat(300) + "END-OF-CAPTION";
    data.kept_samples[0].thumbnail.caption = caption;
    let page = render(&data).unwrap();
    assert!(page.contains("whole text, 1,514 characters"));
    assert_eq!(page.matches("END-OF-CAPTION").count(), 1);
}
