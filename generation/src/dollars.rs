//! Amounts of money.

use std::fmt;

use serde::Serialize;

/// Units of [`Dollars`] in a dollar. A dollar per million tokens is then a million units per token.
pub(crate) const PER_DOLLAR: f64 = 1e12;

/// An amount of money, exact to the trillionth of a dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Dollars(pub(crate) u64);

impl Dollars {
    /// Returns an amount, or `None` if it is negative, not finite or over ten million.
    pub fn new(dollars: f64) -> Option<Dollars> {
        (0.0..=1e7).contains(&dollars).then(|| Dollars((dollars * PER_DOLLAR).round() as u64))
    }

    /// Returns the amount as a number.
    pub fn value(self) -> f64 {
        self.0 as f64 / PER_DOLLAR
    }
}

impl fmt::Display for Dollars {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Most amounts are below a cent.
        let digits = if self.value() >= 1.0 || self.0 == 0 { 2 } else { 6 };
        write!(formatter, "${:.digits$}", self.value())
    }
}

impl Serialize for Dollars {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.value())
    }
}
