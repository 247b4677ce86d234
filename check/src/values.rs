//! Values by what they are values of, in the order of a list. In JSON, each has its own key.

use std::collections::BTreeMap;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Values of metrics or measures. One that the gear does not have is left out.
#[derive(Clone, Debug, PartialEq)]
pub struct Values<K: 'static, T>(Vec<(&'static K, T)>);

impl<K, T> FromIterator<(&'static K, T)> for Values<K, T> {
    fn from_iter<I: IntoIterator<Item = (&'static K, T)>>(values: I) -> Self {
        Values(values.into_iter().collect())
    }
}

impl<K: PartialEq, T> Values<K, T> {
    /// Returns a value.
    pub fn get(&self, of: &K) -> Option<&T> {
        self.0.iter().find(|(key, _)| *key == of).map(|(_, value)| value)
    }

    /// Returns all values.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|(_, value)| value)
    }

    /// Writes one key per value.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    pub fn write<S: Serializer>(&self, key: fn(&K) -> &'static str, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: Serialize,
    {
        serializer.collect_map(self.0.iter().map(|(of, value)| (key(of), value)))
    }

    /// Reads what [`Values::write`] wrote. `list` is all that there may be.
    ///
    /// # Errors
    ///
    /// Those of the deserializer, and if a key is not of the list.
    pub fn read<'de, V: Deserialize<'de>, D: Deserializer<'de>>(
        list: impl Iterator<Item = &'static K>,
        key: fn(&K) -> &'static str,
        value: fn(V) -> T,
        deserializer: D,
    ) -> Result<Self, D::Error> {
        let mut found: BTreeMap<String, V> = BTreeMap::deserialize(deserializer)?;
        let values = list.filter_map(|of| Some((of, value(found.remove(key(of))?)))).collect();
        match found.keys().next() {
            Some(unknown) => Err(D::Error::custom(format!("unknown field `{unknown}`"))),
            None => Ok(values),
        }
    }
}
