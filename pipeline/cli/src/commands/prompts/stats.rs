//! `lynxdata prompts stats`: measures how varied instructions and answers are.

use std::path::Path;

use anyhow::anyhow;
use lynxdata_budgets::conversations;
use lynxdata_datasets::{Diversity, DiversityMeter, Exchange, Positions, SetDiversity, lettered_option};
use lynxdata_prompts::Banks;
use tracing::warn;

use super::super::{columns, grouped, print, print_json};
use crate::exit::{DONE, Failure};

/// Measures the wordings of banks.
pub(super) fn of_banks(banks: &Banks, as_json: bool) -> Result<u8, Failure> {
    let mut meter = DiversityMeter::default();
    for own in banks.wordings() {
        let (task, name) = (own.bank.name.as_str(), own.name());
        let wording = Some(name.as_str());
        meter.add(&Exchange { task, wording, instruction: &own.template.text, ..Exchange::default() });
    }
    tell(&meter.finish(), as_json)
}

/// Measures conversations.
pub(super) fn of_data(path: &Path, as_json: bool) -> Result<u8, Failure> {
    let mut meter = DiversityMeter::default();
    let unreadable = conversations(path, &mut |file, conversation| {
        // Where records do not name their task, the name of their file is used.
        let of_file = Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or(file);
        let task = conversation.task.as_deref().unwrap_or(of_file);
        for (place, (instruction, answer)) in conversation.exchanges().enumerate() {
            let asked = conversation.asked.get(place);
            let by_letters = || answer.and_then(|answer| lettered_option(&instruction, answer));
            let right_option = asked.and_then(|asked| asked.right_option).or_else(by_letters);
            let wording = asked.and_then(|asked| asked.wording.as_deref());
            meter.add(&Exchange { task, wording, instruction: &instruction, answer, right_option });
        }
    });
    let unreadable = unreadable.map_err(anyhow::Error::from)?;
    if unreadable > 0 {
        warn!("{unreadable} records cannot be read and are not measured; `lynxdata audit` lists them");
    }
    tell(&meter.finish(), as_json)
}

fn tell(measured: &SetDiversity, as_json: bool) -> Result<u8, Failure> {
    if as_json {
        print_json(measured)?;
    } else {
        let all = measured.tasks.iter().map(|(task, own)| (task.as_str(), own));
        let overall = (measured.tasks.len() != 1).then_some(("all", &measured.overall));
        let rows: Vec<Vec<String>> = all.chain(overall).map(|(task, own)| row(task, own)).collect();
        let heads = [
            "task",
            "instructions",
            "wordings",
            "entropy",
            "distinct-1",
            "distinct-2",
            "self-BLEU",
            "repeated",
            "median words",
            "longest",
        ];
        print(&columns(&heads, &rows, &[1, 2, 3, 4, 5, 6, 7, 8, 9]))?;
        if let Some(positions) = &measured.overall.right_options {
            print(&told(positions))?;
        }
    }
    if measured.overall.instructions == 0 {
        return Err(Failure::Failed(anyhow!("there is no instruction to measure")));
    }
    Ok(DONE)
}

fn row(task: &str, own: &Diversity) -> Vec<String> {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    let lengths = &own.answer_words;
    vec![
        task.to_owned(),
        grouped(own.instructions),
        or_dash(own.wordings.as_ref().map(|wordings| grouped(wordings.used))),
        or_dash(own.wordings.as_ref().map(|wordings| format!("{:.2}", wordings.entropy_bits))),
        format!("{:.3}", own.distinct_1),
        format!("{:.3}", own.distinct_2),
        or_dash(own.self_bleu.map(|bleu| format!("{bleu:.3}"))),
        format!("{:.1} %", 100.0 * own.repeated_instructions),
        or_dash((!lengths.histogram.is_empty()).then(|| grouped(lengths.p50))),
        or_dash((!lengths.histogram.is_empty()).then(|| grouped(lengths.max))),
    ]
}

fn told(positions: &Positions) -> String {
    let counts: Vec<String> = positions.counts.iter().map(|count| grouped(*count)).collect();
    let p = positions.p.map_or("too few for a p-value".to_owned(), |p| format!("p = {p:.3}"));
    let (chi_square, freedom) = (positions.chi_square, positions.freedom);
    format!("right options by position: {}; chi-square {chi_square:.2} of {freedom}, {p}\n", counts.join(", "))
}
