//! The configuration file, as text: keys, values and their lines.

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::{ConfigError, Origin};

/// One `key = value` of the file.
pub(super) struct Entry {
    pub(super) key: String,
    /// The value's text; those of an array's items.
    pub(super) values: Vec<String>,
    /// Whether it is written as an array.
    pub(super) is_array: bool,
    pub(super) origin: Origin,
}

/// Reads a file; a missing one has no entries unless it `must_exist`.
///
/// # Errors
/// If it cannot be read, is no TOML, or has values of other kinds than texts, numbers, booleans and
/// arrays of them.
pub(super) fn read(path: &Path, must_exist: bool) -> Result<Vec<Entry>, ConfigError> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !must_exist => return Ok(Vec::new()),
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    let table = DeTable::parse(&text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: line(&text, error.span().map_or(0, |span| span.start)),
        reason: error.message().to_owned(),
    })?;
    table.into_inner().into_iter().map(|(key, value)| entry(path, &text, key.get_ref(), &value)).collect()
}

fn entry(path: &Path, text: &str, key: &str, value: &Spanned<DeValue<'_>>) -> Result<Entry, ConfigError> {
    let origin = Origin::File { path: path.to_owned(), line: line(text, value.span().start) };
    let items = match value.get_ref() {
        DeValue::Array(items) => items.iter().map(|item| scalar(item.get_ref())).collect(),
        value => scalar(value).map(|value| vec![value]),
    };
    match items {
        Some(values) => {
            Ok(Entry { key: key.to_owned(), values, is_array: value.get_ref().is_array(), origin })
        }
        None => Err(ConfigError::Value {
            key: key.to_owned(),
            value: text.get(value.span()).unwrap_or_default().to_owned(),
            origin,
            reason: "write a text, a number, true or false, or an array of them".to_owned(),
        }),
    }
}

/// The line of a byte of `text`, from 1.
fn line(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.clone().into_owned()),
        DeValue::Integer(number) => Some(number.to_string()),
        DeValue::Float(number) => Some(number.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
