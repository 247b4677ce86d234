//! Reading of predictions and references from the text of files.
//!
//! Nothing here reads files: a [`Source`] is a name and the text of a file.

mod formats;
mod predictions;
mod references;
mod rows;

use std::collections::BTreeMap;

pub use predictions::{Prediction, read_predictions};
pub use references::{Reference, References, read_labels, read_references};
pub use rows::Key;

use crate::error::{Error, Result};
use crate::place::Place;

/// The text of a file.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Name of the file in messages.
    pub name: &'a str,
    /// Content of the file.
    pub text: &'a str,
}

/// A question with the answer of a model.
#[derive(Clone, Copy, Debug)]
pub struct Item<'a> {
    /// The question and its answers.
    pub reference: &'a Reference,
    /// The prediction; `None` if there is none.
    pub prediction: Option<&'a str>,
}

/// References with their predictions, in the order of the references.
#[derive(Debug)]
pub struct Joined<'a> {
    /// One for each reference.
    pub items: Vec<Item<'a>>,
    /// Ids without a prediction.
    pub missing: Vec<&'a str>,
}

/// Joins predictions with the references of the same id.
///
/// # Errors
/// A prediction whose id is not among the references.
pub fn join<'a>(references: &'a [Reference], predictions: &'a [Prediction]) -> Result<Joined<'a>> {
    let mut by_id: BTreeMap<&str, &Prediction> =
        predictions.iter().map(|prediction| (prediction.id.as_str(), prediction)).collect();
    let items: Vec<Item> = references
        .iter()
        .map(|reference| {
            let prediction = by_id.remove(reference.id.as_str()).and_then(|prediction| prediction.answer.as_deref());
            Item { reference, prediction }
        })
        .collect();
    let unknown = predictions.iter().find(|prediction| by_id.contains_key(prediction.id.as_str()));
    if let (Some(unknown), Some(known)) = (unknown, references.first()) {
        let more = match by_id.len() - 1 {
            0 => String::new(),
            1 => ", nor is one other".to_owned(),
            others => format!(", nor are {others} others"),
        };
        let example = known.id.clone();
        return Err(Error::UnknownId { place: unknown.place.clone(), id: unknown.id.clone(), more, example });
    }
    let missing = items.iter().filter(|item| item.prediction.is_none()).map(|item| item.reference.id.as_str());
    Ok(Joined { missing: missing.collect(), items })
}

#[cfg(test)]
mod tests;
