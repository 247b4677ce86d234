//! Boxes of objects in images: the text that a model sees, and the numbers of the source.

use std::sync::{Mutex, PoisonError};

use minijinja::value::{Object, ObjectRepr, Value, ValueKind};
use serde::{Deserialize, Serialize};

/// A box as the source has it. The text has three decimals; the numbers are those of the source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NativeBox {
    /// The box in slots and answers: `[left, upper, right, lower]` as fractions of the image size
    /// with three decimals. Parts outside the image are cut off.
    pub text: String,
    /// The four numbers of the source, in the order of the convention.
    pub numbers: [f64; 4],
    /// `xywh` (a corner and the size), `xyxy` (two corners), `yxyx` or `cxcywh` (the centre and the
    /// size).
    pub convention: String,
    /// The width of the image in the unit of the numbers. `None` if the numbers are fractions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<f64>,
    /// The height of the image in the unit of the numbers. `None` if the numbers are fractions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<f64>,
}

/// The farthest that an edge of a box may be outside the image, as a share of the side. Corners
/// counted from 1, rounding and scaled copies put edges a few pixels outside, and parts of elements
/// on a screen may be hidden behind its edge. Numbers beyond that are in other units (pixels
/// instead of fractions) or belong to another image.
const FARTHEST_EDGE: f64 = 0.25;

/// The minimum length of a side of a box in pixels. Boxes made from masks may be narrower than a
/// pixel. A shorter side is a fraction where pixels were expected.
const SMALLEST_SIDE: f64 = 0.5;

impl NativeBox {
    /// Converts four numbers. Without the width and height of the image, the numbers must be
    /// fractions. Parts outside the image are cut off.
    ///
    /// # Errors
    /// If the convention is unknown, an edge is further outside than [`FARTHEST_EDGE`], or the box
    /// has no area or a side below [`SMALLEST_SIDE`].
    pub(crate) fn of(numbers: [f64; 4], convention: &str, size: Option<(f64, f64)>) -> Result<Self, String> {
        let native = Self {
            text: String::new(),
            numbers,
            convention: convention.to_owned(),
            width: size.map(|(width, _)| width),
            height: size.map(|(_, height)| height),
        };
        let (width, height) = size.unwrap_or((1.0, 1.0));
        if width <= 0.0 || height <= 0.0 {
            return Err(format!("the size {width} x {height} of the image of a box must be above 0"));
        }
        let edges = native.edges()?;
        let is_far = |edge: &f64| !(-FARTHEST_EDGE..=1.0 + FARTHEST_EDGE).contains(edge);
        if edges.iter().any(is_far) {
            return Err(format!(
                "the box {numbers:?} reaches more than {:.0} % of a side beyond the image of {width} x {height}: its \
                 numbers may be in other units or belong to another image",
                FARTHEST_EDGE * 100.0
            ));
        }
        // Adding 0 turns -0 into 0.
        let cut = edges.map(|edge| edge.clamp(0.0, 1.0) + 0.0);
        let shown = cut.map(|edge| format!("{edge:.3}"));
        let [left, upper, right, lower] = cut;
        let is_narrow =
            size.is_some() && ((right - left) * width < SMALLEST_SIDE || (lower - upper) * height < SMALLEST_SIDE);
        if right <= left || lower <= upper || shown[0] == shown[2] || shown[1] == shown[3] || is_narrow {
            return Err(format!(
                "the box {numbers:?} is too small in an image of {width} x {height}: it has no area, vanishes at three \
                 decimals, or has a side below half a pixel"
            ));
        }
        Ok(Self { text: format!("[{}]", shown.join(", ")), ..native })
    }

    /// Returns the left, upper, right and lower edge as fractions of the image size, neither
    /// rounded nor cut off.
    fn edges(&self) -> Result<[f64; 4], String> {
        let [a, b, c, d] = self.numbers;
        let [left, upper, right, lower] = match self.convention.as_str() {
            "xywh" => [a, b, a + c, b + d],
            "xyxy" => [a, b, c, d],
            "yxyx" => [b, a, d, c],
            "cxcywh" => [a - c / 2.0, b - d / 2.0, a + c / 2.0, b + d / 2.0],
            other => return Err(format!("{other:?} is not one of xywh, xyxy, yxyx, cxcywh")),
        };
        let (width, height) = (self.width.unwrap_or(1.0), self.height.unwrap_or(1.0));
        Ok([left / width, upper / height, right / width, lower / height])
    }

    /// Returns whether a part of the box is outside the image and was cut off.
    pub(crate) fn is_cut(&self) -> bool {
        self.edges().is_ok_and(|edges| edges.iter().any(|edge| !(0.0..=1.0).contains(edge)))
    }
}

/// The keys of the numbers of a box in objects, by convention: those of Pascal VOC (`xmin`), Visual
/// Genome (`x`, `w`), and Visual7W and COCO-like lists (`width`).
const NAMES_OF_EDGES: &[(&str, [&[&str]; 4])] = &[
    ("xywh", [&["x"], &["y"], &["w", "width"], &["h", "height"]]),
    ("xyxy", [&["xmin", "x1"], &["ymin", "y1"], &["xmax", "x2"], &["ymax", "y2"]]),
];

/// Reads the numbers of a box from a list, or from an object with the names of
/// [`NAMES_OF_EDGES`], in the order of the convention. Numbers may be texts, as in XML and CSV.
///
/// # Errors
/// If there are not four finite numbers.
pub(crate) fn numbers(native: &Value, convention: &str) -> Result<[f64; 4], String> {
    let elements = match native.kind() {
        ValueKind::Map => named_edges(native, convention)?,
        ValueKind::Seq | ValueKind::Iterable => {
            let elements = native.try_iter().map_err(|fault| fault.to_string())?;
            elements.checked().collect::<Result<Vec<Value>, _>>().map_err(|fault| fault.to_string())?
        }
        _ => return Err(format!("{native:?} is not a list of the 4 numbers of a box")),
    };
    let numbers = elements.iter().map(number).collect::<Result<Vec<f64>, _>>()?;
    numbers.try_into().map_err(|numbers: Vec<f64>| format!("a box has 4 numbers, not {}", numbers.len()))
}

/// Reads a finite number of a box, or of the size of its image. It may be a text.
///
/// # Errors
/// If the value is anything else.
pub(crate) fn number(value: &Value) -> Result<f64, String> {
    let number = match value.kind() {
        ValueKind::String | ValueKind::Number => value.to_string().trim().parse::<f64>().ok(),
        ValueKind::Undefined | ValueKind::None => return Err("a number of the box is missing or null".to_owned()),
        _ => None,
    };
    number.filter(|number| number.is_finite()).ok_or_else(|| format!("{value:?} is not a number of a box"))
}

/// Returns the numbers of a box that is an object, in the order of the convention.
fn named_edges(edges: &Value, convention: &str) -> Result<Vec<Value>, String> {
    let names = NAMES_OF_EDGES.iter().find(|(own, _)| *own == convention);
    let (_, names) = names.ok_or_else(|| format!("an object cannot be a box in the convention {convention:?}"))?;
    let edge = |names: &&[&str]| {
        let mut found = names.iter().filter_map(|name| edges.get_attr(name).ok());
        let found = found.find(|value| !value.is_undefined());
        found.ok_or_else(|| format!("the box {edges} has no {}", names.join(" or ")))
    };
    names.iter().map(edge).collect()
}

/// The boxes that the expressions of one record converted. Filters return only texts, so the filter
/// `box` also adds every box here. It finds this object in the scope of the record, under
/// [`BOXES_OF_RECORD`].
#[derive(Debug, Default)]
pub(crate) struct BoxesOfRecord(Mutex<Vec<NativeBox>>);

/// The name of [`BoxesOfRecord`] in the scope of a record; no expression can have this name.
pub(crate) const BOXES_OF_RECORD: &str = "boxes of the record";

impl Object for BoxesOfRecord {
    fn repr(self: &std::sync::Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }
}

impl BoxesOfRecord {
    pub(crate) fn add(&self, native: NativeBox) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(native);
    }

    /// Returns the boxes in the order in which they were converted, and leaves none.
    pub(crate) fn take(&self) -> Vec<NativeBox> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The numbers are kept as they are, and the text is within half a thousandth of them.
        #[test]
        fn the_text_is_the_box_of_the_numbers(
            [x, y] in [0.0..500.0_f64, 0.0..300.0],
            [w, h] in [1.0..140.0_f64, 1.0..180.0],
        ) {
            for (convention, numbers) in [
                ("xywh", [x, y, w, h]),
                ("xyxy", [x, y, x + w, y + h]),
                ("yxyx", [y, x, y + h, x + w]),
                ("cxcywh", [x + w / 2.0, y + h / 2.0, w, h]),
            ] {
                let native = NativeBox::of(numbers, convention, Some((640.0, 480.0))).unwrap();
                prop_assert_eq!(native.numbers.map(f64::to_bits), numbers.map(f64::to_bits));
                let text = native.text.trim_matches(['[', ']']);
                let shown: Vec<f64> = text.split(", ").map(|edge| edge.parse().unwrap()).collect();
                let edges = [x / 640.0, y / 480.0, (x + w) / 640.0, (y + h) / 480.0];
                for (shown, edge) in shown.iter().zip(edges) {
                    prop_assert!((shown - edge).abs() <= 0.000_500_1, "{} of {:?}", native.text, numbers);
                }
                prop_assert!(!native.is_cut() || convention != "xyxy");
                let read: NativeBox = serde_json::from_str(&serde_json::to_string(&native).unwrap()).unwrap();
                prop_assert_eq!(read, native);
            }
        }
    }
}
